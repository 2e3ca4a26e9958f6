// What every method does with one pattern: shift the probe, propagate, meet a constraint on the detector, propagate back.

#pragma once

#include <algorithm>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "fft.hpp"

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

// rows that may be the same are read and written at the same place only
#define PTY_SIMD _Pragma("GCC ivdep")

extern "C" {

struct PtyProblem {
    int64_t patterns, modes, h, w, H, W;
    const void* amplitudes;  // (S, h, w), in the order of the propagator's output
    const int64_t* slots;    // (K,) where a pattern lies among them; or null where all do, in order
    const void* good;        // (h, w) 1 where the detector can be trusted; or null
    const int64_t* corners;  // (K, 2)
    const void* ramp_y;      // (K, h) complex, phase ramps of the fractions; or null where there are none
    const void* ramp_x;      // (K, w)
    const void* transfer;    // (h, w) complex kernel of the near field; or null in the far field
    double tiny_wave, tiny_power;
};

}

namespace pty {

// Numbers too small for full precision count as 0 while this lives: the dim edge of a probe would cost a hundred times more.
class FlushTiny {
  public:
#if defined(__SSE2__)
    FlushTiny() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040); }
    ~FlushTiny() { _mm_setcsr(before_); }

  private:
    unsigned before_;
#endif
};

// A few threads that work on the parts of one task at a time.
class Crew {
  public:
    explicit Crew(int threads) {
        for (int i = 1; i < threads; ++i) hands_.emplace_back([this, i] { serve(i); });
    }
    ~Crew() {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            over_ = true;
        }
        begin_.notify_all();
        for (auto& hand : hands_) hand.join();
    }
    int size() const { return static_cast<int>(hands_.size()) + 1; }
    // task(i) for i < size(), each on its own thread
    void run(const std::function<void(int)>& task) {
        if (hands_.empty()) return task(0);
        {
            std::lock_guard<std::mutex> lock(mutex_);
            task_ = &task;
            left_ = static_cast<int>(hands_.size());
            ++round_;
        }
        begin_.notify_all();
        task(0);
        std::unique_lock<std::mutex> lock(mutex_);
        end_.wait(lock, [this] { return left_ == 0; });
    }

  private:
    void serve(int i) {
        FlushTiny flush;
        long seen = 0;
        for (;;) {
            const std::function<void(int)>* task;
            {
                std::unique_lock<std::mutex> lock(mutex_);
                begin_.wait(lock, [&] { return over_ || round_ != seen; });
                if (over_) return;
                seen = round_;
                task = task_;
            }
            (*task)(i);
            std::lock_guard<std::mutex> lock(mutex_);
            if (--left_ == 0) end_.notify_one();
        }
    }
    std::vector<std::thread> hands_;
    std::mutex mutex_;
    std::condition_variable begin_, end_;
    const std::function<void(int)>* task_ = nullptr;
    int left_ = 0;
    long round_ = 0;
    bool over_ = false;
};

template <class T>
std::vector<Field<T>> fields(int count, int rows, int columns) {
    std::vector<Field<T>> made;
    for (int i = 0; i < count; ++i) made.emplace_back(rows, columns);
    return made;
}

// to = from · (a ⊗ b), conjugated where asked; planes of h × w, planar ramps
template <class T>
void ramped(Plane<T> from, Plane<T> to, const T* a, const T* b, int h, int w, bool conjugate, T scale, bool add) {
    const T sign = conjugate ? -1 : 1, keep = add ? 1 : 0;
    const T *bre = b, *bim = b + w;
    for (int y = 0; y < h; ++y) {
        const T are = a[y] * scale, aim = a[h + y] * scale;
        const T *fre = from.re + y * from.pitch, *fim = from.im + y * from.pitch;
        T *tre = to.re + y * to.pitch, *tim = to.im + y * to.pitch;
        PTY_SIMD
        for (int x = 0; x < w; ++x) {
            const T cre = are * bre[x] - aim * bim[x], cim = sign * (are * bim[x] + aim * bre[x]);
            const T re = fre[x] * cre - fim[x] * cim, im = fre[x] * cim + fim[x] * cre;
            tre[x] = keep * tre[x] + re;
            tim[x] = keep * tim[x] + im;
        }
    }
}

// What is done to rows of numbers, y of a plane; each reads as its first line.
template <class T>
PTY_INLINE void add_row(Row<T> from, Row<T> to, int columns, T times) {  // to += times · from
    PTY_SIMD
    for (int x = 0; x < columns; ++x) {
        to.re[x] += times * from.re[x];
        to.im[x] += times * from.im[x];
    }
}
template <class T>
PTY_INLINE void add_row(Plane<T> from, Plane<T> to, int y, int columns, T times) {
    add_row(from.row(y), to.row(y), columns, times);
}
template <class T>
PTY_INLINE void product(Row<T> a, Row<T> b, Row<T> to, int columns) {  // to = a b
    PTY_SIMD
    for (int x = 0; x < columns; ++x) {
        const T re = a.re[x] * b.re[x] - a.im[x] * b.im[x], im = a.re[x] * b.im[x] + a.im[x] * b.re[x];
        to.re[x] = re;
        to.im[x] = im;
    }
}
template <class T>
PTY_INLINE void add_product(Row<T> a, Row<T> b, Row<T> to, T times, int columns) {  // to += times · a b
    PTY_SIMD
    for (int x = 0; x < columns; ++x) {
        to.re[x] += times * (a.re[x] * b.re[x] - a.im[x] * b.im[x]);
        to.im[x] += times * (a.re[x] * b.im[x] + a.im[x] * b.re[x]);
    }
}
template <class T>
PTY_INLINE void pull(Row<T> a, Row<T> b, Row<T> to, int columns, bool add) {  // to = a* b, or += where it is added
    const T keep = add ? 1 : 0;
    PTY_SIMD
    for (int x = 0; x < columns; ++x) {
        const T re = a.re[x] * b.re[x] + a.im[x] * b.im[x], im = a.re[x] * b.im[x] - a.im[x] * b.re[x];
        to.re[x] = keep * to.re[x] + re;
        to.im[x] = keep * to.im[x] + im;
    }
}
template <class T>
PTY_INLINE void add_power(Row<T> a, T* to, int columns) {  // to += |a|²
    PTY_SIMD
    for (int x = 0; x < columns; ++x) to[x] += a.re[x] * a.re[x] + a.im[x] * a.im[x];
}
template <class T>
PTY_INLINE void clear_row(Row<T> a, int columns) {  // a = 0
    std::fill_n(a.re, columns, T(0));
    std::fill_n(a.im, columns, T(0));
}
template <class T>
PTY_INLINE void scale_row(Row<T> a, T times, int columns) {  // a *= times
    PTY_SIMD
    for (int x = 0; x < columns; ++x) a.re[x] *= times, a.im[x] *= times;
}
template <class T>
PTY_INLINE void add_interleaved(Row<T> from, T* to, int columns) {  // to += from
    PTY_SIMD
    for (int x = 0; x < columns; ++x) {
        to[2 * x] += from.re[x];
        to[2 * x + 1] += from.im[x];
    }
}
template <class T>
PTY_INLINE void read_row(const T* from, Row<T> to, int columns) {  // interleaved to planar
    PTY_SIMD
    for (int x = 0; x < columns; ++x) to.re[x] = from[2 * x], to.im[x] = from[2 * x + 1];
}
template <class T>
PTY_INLINE void write_row(Row<T> from, T* to, int columns) {  // planar to interleaved
    PTY_SIMD
    for (int x = 0; x < columns; ++x) to[2 * x] = from.re[x], to[2 * x + 1] = from.im[x];
}
// to = from, past the caches, for what will not be read before much else has been
template <class T>
PTY_INLINE void stream_row(Row<T> from, T* to, int columns) {
    int x = 0;
#if defined(__AVX__)
    constexpr int V = lanes<T>;
    if (reinterpret_cast<std::uintptr_t>(to) % 32 == 0)
        for (; x + V <= columns; x += V) {
            const Vec<T> re = load(from.re + x), im = load(from.im + x);
            stream(to + 2 * x, low_pairs(re, im));
            stream(to + 2 * x + V, high_pairs(re, im));
        }
#endif
    for (; x < columns; ++x) {
        to[2 * x] = from.re[x];
        to[2 * x + 1] = from.im[x];
    }
}

template <class T>
void spread(const T* from, Plane<T> to, int rows, int columns) {
    for (int y = 0; y < rows; ++y) read_row(from + 2L * y * columns, to.row(y), columns);
}
template <class T>
void gather(Plane<T> from, T* to, int rows, int columns) {
    for (int y = 0; y < rows; ++y) write_row(from.row(y), to + 2L * y * columns, columns);
}

template <class T>
void clear_rows(const Field<T>& field, int first, int end) {
    const Plane<T> plane = field.plane();
    std::memset(plane.re + first * plane.pitch, 0, (end - first) * plane.pitch * sizeof(T));
    std::memset(plane.im + first * plane.pitch, 0, (end - first) * plane.pitch * sizeof(T));
}

// (re + i im) of one row of an interleaved array
template <class T>
PTY_INLINE const T* interleaved(const void* array, std::ptrdiff_t row, int columns) {
    return static_cast<const T*>(array) + 2 * row * columns;
}

struct Segment {
    int y, x, width;
};

// A measurement and its set-up, as every bench sees it.
template <class T>
class Scene {
  public:
    explicit Scene(const PtyProblem& p) : p(p), K(p.patterns), M(p.modes), h(p.h), w(p.w), H(p.H), W(p.W) {
        if (!p.transfer) return;
        kernel = Field<T>(h, w);
        spread(static_cast<const T*>(p.transfer), kernel.plane(), h, w);
        const T scale = T(1) / (static_cast<T>(h) * w);
        for (std::size_t i = 0; i < kernel.size(); ++i) kernel.plane().re[i] *= scale, kernel.plane().im[i] *= scale;
    }
    // The pixels of the canvas that some patterns touch, each once, row by row.
    std::vector<Segment> touched(const int64_t* index, int64_t count) const {
        std::vector<std::pair<int, int>> corners;  // by column
        std::vector<char> changes(H + 1, 0);       // rows in which a window begins, or has ended
        for (int64_t i = 0; i < count; ++i) {
            const int y = static_cast<int>(p.corners[2 * index[i]]);
            corners.emplace_back(static_cast<int>(p.corners[2 * index[i] + 1]), y);
            changes[y] = changes[y + h] = 1;
        }
        std::sort(corners.begin(), corners.end());
        std::vector<Segment> found;
        std::size_t above = 0;  // where the segments of the row before begin
        for (int y = 0; y < H; ++y) {
            const std::size_t begin = found.size();
            if (!changes[y]) {
                for (std::size_t i = above; i < begin; ++i) found.push_back({y, found[i].x, found[i].width});
            } else {
                for (const auto& [x, top] : corners) {
                    if (y < top || y >= top + h) continue;
                    if (found.size() > begin && x <= found.back().x + found.back().width)
                        found.back().width = x + w - found.back().x;
                    else
                        found.push_back({y, x, w});
                }
            }
            above = begin;
        }
        return found;
    }
    Plane<T> window(const Field<T>& canvas, int k) const {
        return canvas.plane().window(static_cast<int>(p.corners[2 * k]), static_cast<int>(p.corners[2 * k + 1]));
    }
    const T* amplitudes(int k) const {
        return static_cast<const T*>(p.amplitudes) + static_cast<std::ptrdiff_t>(p.slots ? p.slots[k] : k) * h * w;
    }
    bool shifting() const { return p.ramp_y != nullptr; }
    bool near() const { return p.transfer != nullptr; }

    const PtyProblem p;
    const int K, M, h, w, H, W;
    Field<T> kernel;  // of the near field, divided by h w
};

// A constraint of the modulus |Ψ|² = Σ_m |Ψ_m|²: Ψ takes Ψ times a factor. `apply` fills the factors of a row from its
// intensities, in place, and returns the squared error of the modulus; a constraint that has to see the whole pattern
// first does so for all rows at once.
template <class T>
struct Modulus {  // the measured one; the change of the wave
    static constexpr bool whole = false;
    T apply(T* row, const T* measured, const T* good, int count) const {
        T squared = 0;
        if (good) {
            PTY_SIMD
            for (int x = 0; x < count; ++x) {
                const T factor = good[x] * (measured[x] / std::sqrt(row[x]) - 1);
                squared += factor * factor * row[x];
                row[x] = factor;
            }
        } else {
            PTY_SIMD
            for (int x = 0; x < count; ++x) {
                const T factor = measured[x] / std::sqrt(row[x]) - 1;
                squared += factor * factor * row[x];
                row[x] = factor;
            }
        }
        return squared;
    }
};

// What one thread needs to work on a pattern.
template <class T>
class Bench {
  public:
    explicit Bench(const Scene<T>& scene)
        : scene(scene),
          waves(fields<T>(scene.M, scene.h, scene.w)),
          spectra(fields<T>(scene.M, scene.h, scene.w)),
          shifted(scene.shifting() ? fields<T>(scene.M, scene.h, scene.w) : std::vector<Field<T>>()),
          row_((scene.w + 31) / 16 * 16),
          fft_(scene.h, scene.w),
          ry_(2 * scene.h),
          rx_(2 * scene.w),
          rows_(5 * row_) {}

    // The phase ramps of pattern k, for all that is said of it below.
    void turn_to(int k) {
        k_ = k;
        if (!scene.shifting()) return;
        const int h = scene.h, w = scene.w;
        const T* y = interleaved<T>(scene.p.ramp_y, k, h);
        const T* x = interleaved<T>(scene.p.ramp_x, k, w);
        for (int i = 0; i < h; ++i) ry_.get()[i] = y[2 * i], ry_.get()[h + i] = y[2 * i + 1];
        for (int i = 0; i < w; ++i) rx_.get()[i] = x[2 * i], rx_.get()[w + i] = x[2 * i + 1];
    }

    // Fields of given spectra, shifted by the fraction of the position.
    void shift(const std::vector<Field<T>>& held, std::vector<Field<T>>& to) {
        const T scale = T(1) / (static_cast<T>(scene.h) * scene.w);
        for (int m = 0; m < scene.M; ++m) {
            ramp(held[m].plane(), spectra[m].plane(), false, scale, false);
            fft_.backward(spectra[m].plane(), to[m].plane());
        }
    }
    // Fields of given spectra where they are.
    void unshifted(const std::vector<Field<T>>& held, std::vector<Field<T>>& to) {
        const T scale = T(1) / (static_cast<T>(scene.h) * scene.w);
        for (int m = 0; m < scene.M; ++m) {
            fft_.backward(held[m].plane(), to[m].plane());
            for (int y = 0; y < scene.h; ++y) scale_row(to[m].row(y), scale, scene.w);
        }
    }
    // The adjoint: adds the spectra of the waves, shifted back, to `to`.
    void shift_back(std::vector<Field<T>>& to) {
        for (int m = 0; m < scene.M; ++m) {
            fft_.forward(waves[m].plane(), spectra[m].plane());
            ramp(spectra[m].plane(), to[m].plane(), true, 1, true);
        }
    }

    // Puts the waves at the detector under a constraint and brings them back; returns the squared error.
    template <class Constraint>
    double constrain(const Constraint& constraint) {
        const int h = scene.h, w = scene.w, M = scene.M;
        std::vector<Field<T>>& there = scene.near() ? waves : spectra;
        for (int m = 0; m < M; ++m) {
            fft_.forward(waves[m].plane(), spectra[m].plane());
            if (!scene.near()) continue;
            through(spectra[m].plane(), false);
            fft_.backward(spectra[m].plane(), waves[m].plane());
        }
        // in the far field half of a unitary transform's scale is applied here, half on the way back
        const T unit = scene.near() ? T(1) : 1 / std::sqrt(static_cast<T>(h) * w), tiny = scene.p.tiny_wave;
        const T* measured = scene.amplitudes(k_);
        const T* good = static_cast<const T*>(scene.p.good);
        double error = 0;
        if constexpr (Constraint::whole) {
            if (!whole_) whole_ = std::make_unique<Field<T>>(h, w);
            const Plane<T> plane = whole_->plane(), room{plane.im, plane.re, plane.pitch};
            for (int y = 0; y < h; ++y) intensities(there, y, unit, tiny, plane.re + y * plane.pitch);
            error = constraint.apply(plane, room, measured, good, h, w);
            for (int y = 0; y < h; ++y) scale(there, y, unit, plane.re + y * plane.pitch);
        } else {
            T* sum = row(0);
            for (int y = 0; y < h; ++y) {
                intensities(there, y, unit, tiny, sum);
                error += constraint.apply(sum, measured + y * w, good ? good + y * w : nullptr, w);
                scale(there, y, unit, sum);
            }
        }
        for (int m = 0; m < M; ++m) {
            if (scene.near()) {
                fft_.forward(waves[m].plane(), spectra[m].plane());
                through(spectra[m].plane(), true);
            }
            fft_.backward(spectra[m].plane(), waves[m].plane());
        }
        return error;
    }

    // One of five rows of numbers to work with; `constrain` uses the first.
    T* row(int i) { return rows_.get() + i * row_; }

    const Scene<T>& scene;
    std::vector<Field<T>> waves, spectra;
    std::vector<Field<T>> shifted;  // of the modes of a probe, where positions have fractions

  private:
    // A row of the waves at the detector, brought to scale, and the sum of its intensities.
    void intensities(std::vector<Field<T>>& there, int y, T unit, T tiny, T* sum) {
        PTY_SIMD
        for (int x = 0; x < scene.w; ++x) sum[x] = 0;
        for (int m = 0; m < scene.M; ++m) {
            const Plane<T> s = there[m].plane();
            T *re = s.re + y * s.pitch, *im = s.im + y * s.pitch;
            PTY_SIMD
            for (int x = 0; x < scene.w; ++x) {
                re[x] = unit * re[x] + tiny;
                im[x] = unit * im[x];
                sum[x] += re[x] * re[x] + im[x] * im[x];
            }
        }
    }
    void scale(std::vector<Field<T>>& there, int y, T unit, const T* factor) {
        for (int m = 0; m < scene.M; ++m) {
            const Plane<T> s = there[m].plane();
            T *re = s.re + y * s.pitch, *im = s.im + y * s.pitch;
            PTY_SIMD
            for (int x = 0; x < scene.w; ++x) {
                const T times = unit * factor[x];
                re[x] *= times;
                im[x] *= times;
            }
        }
    }
    void ramp(Plane<T> from, Plane<T> to, bool conjugate, T scale, bool add) {
        ramped<T>(from, to, ry_.get(), rx_.get(), scene.h, scene.w, conjugate, scale, add);
    }
    // Through the near field's kernel, or its adjoint, with the shift that the detector did not follow undone.
    void through(Plane<T> s, bool back) {
        const Plane<T> kernel = scene.kernel.plane();
        const T sign = back ? -1 : 1;
        for (int y = 0; y < scene.h; ++y) {
            T *re = s.re + y * s.pitch, *im = s.im + y * s.pitch;
            const T *kre = kernel.re + y * kernel.pitch, *kim = kernel.im + y * kernel.pitch;
            PTY_SIMD
            for (int x = 0; x < scene.w; ++x) {
                const T a = re[x], b = im[x], c = sign * kim[x];
                re[x] = a * kre[x] - b * c;
                im[x] = a * c + b * kre[x];
            }
        }
        if (scene.shifting()) ramp(s, s, !back, 1, false);
    }

    const std::ptrdiff_t row_;
    Fft2<T> fft_;
    Block<T> ry_, rx_, rows_;  // ramps with their real parts first
    std::unique_ptr<Field<T>> whole_;  // intensities and what a constraint needs beside them
    int k_ = 0;
};

}  // namespace pty
