// The gradient of a loss of some patterns with respect to object, probe, positions and distance: what
// engines/gradient.py does in torch; and what a gradient method does to a whole canvas: Adam, total variation.

#pragma once

#include <complex>

#include "bench.hpp"

extern "C" {

struct PtyGradient {
    int64_t loss;      // 0 Poisson, 1 Gaussian, 2 R
    int64_t sampling;  // 0 windows at whole pixels, 1 and a shifted probe, 2 bilinear interpolation of the object
    int64_t states;    // object modes
    int64_t padded_h, padded_w;
    int64_t refine_probe, refine_positions, refine_distance;
    int64_t go_on;  // whether the gradients of object and probe go on from the call before
    double floor, scale;  // photons; the loss is multiplied by the scale
    const void *object, *probe;      // (N, H, W), (M, h, w)
    const void *transfer, *bend;     // (padded_h, padded_w) kernel of the near field, complex, and its phase's derivative, real
    const double* positions;         // (count, 2)
    void *object_gradient, *probe_gradient;
    double *position_gradient, *sums;  // (count, 2); loss, squared error, derivative by the distance
};
}

namespace pty {

constexpr double TURN = 2 * 3.14159265358979323846;

// Values and slopes of a loss of expected counts, which the slopes replace; every sum is over a row.
struct Misfit {
    double value = 0, error = 0;
};
template <class T>
Misfit misfit(int64_t loss, T floor, T scale, T* row, const T* measured, const T* good, int count) {
    T value = 0, error = 0;
    const auto each = [&](auto&& term) {
        PTY_SIMD
        for (int x = 0; x < count; ++x) {
            const T trust = good ? good[x] : T(1), a = measured[x], expected = row[x];
            const T gap = std::sqrt(expected) - a;
            T lost, slope;
            term(expected, a, lost, slope);
            error += trust * gap * gap;
            value += trust * lost;
            row[x] = scale * trust * slope;
        }
    };
    if (loss == 0)
        each([floor](T d, T a, T& lost, T& slope) {
            const T counted = a * a + floor, raised = d + floor;
            lost = raised - counted - counted * std::log(raised / counted);
            slope = (raised - counted) / raised;
        });
    else if (loss == 1)
        each([floor](T d, T a, T& lost, T& slope) {
            const T root = std::sqrt(d + floor), gap = root - std::sqrt(a * a + floor);
            lost = gap * gap;
            slope = gap / root;
        });
    else
        each([](T d, T a, T& lost, T& slope) {
            const T counts = a * a, gap = d - counts, spread = std::max(counts, T(1));
            lost = counts > 0 ? gap * gap / (2 * spread) : d;
            slope = counts > 0 ? gap / spread : T(1);
        });
    return {static_cast<double>(scale * value), static_cast<double>(error)};
}

template <class T>
class Gradients {
  public:
    Gradients(const PtyProblem& p, int threads) : scene_(p), M(p.modes), h(p.h), w(p.w), H(p.H), W(p.W), crew_(threads) {}

    void batch(const int64_t* index, int64_t count, const PtyGradient& q) {
        FlushTiny flush;
        prepare(q);
        const int threads = crew_.size();
        int first = H, end = 0;
        for (int64_t i = 0; i < count; ++i) {
            const int y = corner(q.positions[2 * i], 0);
            first = std::min(first, y);
            end = std::max(end, std::min(y + h + 1, H));
        }
        crew_.run([&](int t) {
            for (int n = 0; n < N; ++n)
                for (int y = part(first, end, t); y < part(first, end, t + 1); ++y)
                    read_row(interleaved<T>(q.object, static_cast<std::ptrdiff_t>(n) * H + y, W), object_[n].row(y), W);
            for (auto& field : desks_[t]->pull) clear_rows(field, first, end);
            for (auto& field : desks_[t]->turn) field.clear();
        });
        hold(q);
        std::vector<Found> found(threads);
        crew_.run([&](int t) {
            for (int64_t i = count * t / threads; i < count * (t + 1) / threads; ++i)
                visit(*desks_[t], i, static_cast<int>(index[i]), q, found[t]);
        });
        crew_.run([&](int t) {
            for (int n = 0; n < N; ++n) {
                T* to = static_cast<T*>(q.object_gradient) + 2 * static_cast<std::ptrdiff_t>(n) * H * W;
                if (!q.go_on) {
                    std::memset(to + 2L * part(0, first, t) * W, 0, 2L * (part(0, first, t + 1) - part(0, first, t)) * W * sizeof(T));
                    std::memset(to + 2L * part(end, H, t) * W, 0, 2L * (part(end, H, t + 1) - part(end, H, t)) * W * sizeof(T));
                }
                for (int y = part(first, end, t); y < part(first, end, t + 1); ++y) {
                    const Row<T> sum = desks_[0]->pull[n].row(y);
                    for (int s = 1; s < threads; ++s) add_row(desks_[s]->pull[n].row(y), sum, W, T(1));
                    leave(sum, to + 2L * y * W, W, q.go_on);
                }
            }
            if (!q.refine_probe) return;
            for (int m = 0; m < M; ++m)
                for (int y = part(0, h, t); y < part(0, h, t + 1); ++y)
                    for (int s = 1; s < threads; ++s) add_row(desks_[s]->turn[m].row(y), desks_[0]->turn[m].row(y), w, T(1));
        });
        for (int m = 0; q.refine_probe && m < M; ++m) {
            T* to = static_cast<T*>(q.probe_gradient) + 2L * m * h * w;
            Field<T>& turn = desks_[0]->turn[m];
            if (q.sampling == 1) {
                desks_[0]->window.backward(turn.plane(), desks_[0]->spectra[m].plane());
                for (int y = 0; y < h; ++y) scale_row(desks_[0]->spectra[m].row(y), T(1) / (static_cast<T>(h) * w), w);
            }
            const Plane<T> from = (q.sampling == 1 ? desks_[0]->spectra[m] : turn).plane();
            for (int y = 0; y < h; ++y) leave(from.row(y), to + 2L * y * w, w, q.go_on);
        }
        Found sum;
        for (const Found& one : found) sum.value += one.value, sum.error += one.error, sum.distance += one.distance;
        q.sums[0] = sum.value, q.sums[1] = sum.error, q.sums[2] = sum.distance;
    }

  private:
    struct Found {
        double value = 0, error = 0, distance = 0;
        char apart[64];
    };
    struct Desk {
        Desk(int M, int N, int h, int w, int H, int W, int ph, int pw)
            : shifted(fields<T>(M, h, w)), spectra(fields<T>(M, h, w)), turn(fields<T>(M, h, w)), patch(fields<T>(N, h, w)),
              pulled(fields<T>(N, h, w)), pull(fields<T>(N, H, W)), waves(fields<T>(M * N, ph, pw)), flown(fields<T>(M * N, ph, pw)),
              ours(h, w), spare(ph, pw), window(h, w), padded(ph, pw), row(2 * pw + 64), ramps(2 * (h + w) + 64), padded_ramps(2 * (ph + pw) + 64) {}
        std::vector<Field<T>> shifted, spectra, turn;  // of the probe: at the position, its spectrum there, its gradient
        std::vector<Field<T>> patch, pulled, pull;     // of the object: the window, its gradient, that of the canvas
        std::vector<Field<T>> waves, flown;            // exit waves, and their spectra behind the kernel
        Field<T> ours, spare;
        Fft2<T> window, padded;
        Block<T> row, ramps, padded_ramps;
    };

    int part(int first, int end, int t) const { return first + static_cast<int>(static_cast<int64_t>(std::max(end - first, 0)) * t / crew_.size()); }
    static void leave(Row<T> from, T* to, int columns, bool go_on) {
        if (go_on)
            add_interleaved(from, to, columns);
        else
            write_row(from, to, columns);
    }
    int room(int axis) const { return axis ? W - w : H - h; }
    int corner(double position, int axis) const {
        return std::min(std::max(static_cast<int>(std::floor(position + 1e-6)), 0), room(axis));
    }

    void prepare(const PtyGradient& q) {
        if (q.states == N && q.padded_h == ph && q.padded_w == pw) return;
        N = static_cast<int>(q.states), ph = static_cast<int>(q.padded_h), pw = static_cast<int>(q.padded_w);
        object_ = fields<T>(N, H, W);
        held_ = fields<T>(M, h, w);
        kernel_ = Field<T>(ph, pw);
        desks_.clear();
        for (int t = 0; t < crew_.size(); ++t) desks_.push_back(std::make_unique<Desk>(M, N, h, w, H, W, ph, pw));
    }
    // The probe, or its spectrum, and the kernel of the near field.
    void hold(const PtyGradient& q) {
        for (int m = 0; m < M; ++m) {
            const T* from = static_cast<const T*>(q.probe) + 2L * m * h * w;
            if (q.sampling == 1) {
                spread(from, desks_[0]->ours.plane(), h, w);
                desks_[0]->window.forward(desks_[0]->ours.plane(), held_[m].plane());
            } else {
                spread(from, held_[m].plane(), h, w);
            }
        }
        if (q.transfer) spread(static_cast<const T*>(q.transfer), kernel_.plane(), ph, pw);
    }

    // exp(-2πi f s) of an axis of n pixels, real parts first
    static void ramp(double fraction, int n, T* to) {
        for (int i = 0; i < n; ++i) {
            const double f = static_cast<double>(i < (n + 1) / 2 ? i : i - n) / n, angle = -TURN * f * fraction;
            to[i] = static_cast<T>(std::cos(angle)), to[n + i] = static_cast<T>(std::sin(angle));
        }
    }
    static T frequency(int i, int n) { return static_cast<T>(i < (n + 1) / 2 ? i : i - n) / n; }

    void visit(Desk& d, int64_t i, int k, const PtyGradient& q, Found& found) {
        const double at[2] = {std::min(std::max(q.positions[2 * i], 0.0), static_cast<double>(room(0))),
                              std::min(std::max(q.positions[2 * i + 1], 0.0), static_cast<double>(room(1)))};
        int cy = corner(at[0], 0), cx = corner(at[1], 1);
        if (q.sampling == 2) cy = std::min(cy, std::max(room(0) - 1, 0)), cx = std::min(cx, std::max(room(1) - 1, 0));
        const double fy = at[0] - cy, fx = at[1] - cx;
        const bool near = q.transfer != nullptr;
        if (q.sampling == 1) {
            ramp(fy, h, d.ramps.get());
            ramp(fx, w, d.ramps.get() + 2 * h);
            if (near) ramp(fy, ph, d.padded_ramps.get()), ramp(fx, pw, d.padded_ramps.get() + 2 * ph);
            for (int m = 0; m < M; ++m) {
                ramped<T>(held_[m].plane(), d.spectra[m].plane(), d.ramps.get(), d.ramps.get() + 2 * h, h, w, false, 1 / (static_cast<T>(h) * w), false);
                d.window.backward(d.spectra[m].plane(), d.shifted[m].plane());
            }
        }
        const std::vector<Field<T>>& probe = q.sampling == 1 ? d.shifted : held_;
        const Blend blend = {cy, cx, static_cast<T>(fy), static_cast<T>(fx), room(0) > 0, room(1) > 0};
        if (q.sampling == 2)
            for (int n = 0; n < N; ++n) interpolate(object_[n].plane(), blend, d.patch[n].plane());
        for (int m = 0; m < M; ++m)
            for (int n = 0; n < N; ++n) {
                Field<T>& wave = d.waves[m * N + n];
                if (ph > h || pw > w) wave.clear();
                const Plane<T> o = patch(d, n, q, cy, cx), to = wave.plane();
                for (int y = 0; y < h; ++y) pty::product(probe[m].row(y), o.row(y), to.row(y), w);
                d.padded.forward(to, d.flown[m * N + n].plane());
                if (!near) continue;
                through(d, d.flown[m * N + n].plane(), q, false);
                d.padded.backward(d.flown[m * N + n].plane(), to);
            }
        compare(d, k, q, found);
        double push[2] = {0, 0};
        for (int j = 0; j < M * N; ++j) {
            const Plane<T> wave = d.waves[j].plane(), flown = d.flown[j].plane();
            if (near) {
                d.padded.forward(wave, d.spare.plane());
                if (q.refine_positions && q.sampling == 1) turned(d.spare.plane(), flown, ph, pw, T(-1), push);
                if (q.refine_distance) found.distance += bent(d.spare.plane(), flown, static_cast<const T*>(q.bend));
                through(d, d.spare.plane(), q, true);
                d.padded.backward(d.spare.plane(), wave);
            } else {
                d.padded.backward(flown, wave);
            }
        }
        for (int n = 0; n < N; ++n) {
            const Plane<T> to = q.sampling == 2 ? d.pulled[n].plane() : d.pull[n].plane().window(cy, cx);
            if (q.sampling == 2) d.pulled[n].clear();
            for (int m = 0; m < M; ++m) product(probe[m].plane(), d.waves[m * N + n].plane(), to, true);
            if (q.sampling == 2) scatter(d.pulled[n].plane(), object_[n].plane(), blend, d.pull[n].plane(), q.refine_positions != 0, push);
        }
        if (q.refine_probe || (q.refine_positions && q.sampling == 1))
            for (int m = 0; m < M; ++m) {
                const Plane<T> to = q.sampling == 1 ? d.ours.plane() : d.turn[m].plane();
                for (int n = 0; n < N; ++n) product(patch(d, n, q, cy, cx), d.waves[m * N + n].plane(), to, q.sampling != 1 || n > 0);
                if (q.sampling != 1) continue;
                d.window.forward(d.ours.plane(), d.shifted[m].plane());
                if (q.refine_positions) turned(d.shifted[m].plane(), d.spectra[m].plane(), h, w, T(1), push);
                ramped<T>(d.shifted[m].plane(), d.turn[m].plane(), d.ramps.get(), d.ramps.get() + 2 * h, h, w, true, 1, true);
            }
        if (q.refine_positions) q.position_gradient[2 * i] = push[0], q.position_gradient[2 * i + 1] = push[1];
    }

    struct Blend {  // where a window lies between the pixels
        int y, x;
        T fy, fx;
        bool below, right;  // whether there is room for another row and column
    };

    Plane<T> patch(Desk& d, int n, const PtyGradient& q, int cy, int cx) const {
        return q.sampling == 2 ? d.patch[n].plane() : object_[n].plane().window(cy, cx);
    }

    // Counts of the detector's rows, and the waves there times twice the slopes: zero beyond the detector.
    void compare(Desk& d, int k, const PtyGradient& q, Found& found) {
        const bool near = q.transfer != nullptr;
        std::vector<Field<T>>& there = near ? d.waves : d.flown;
        const T unit = near ? T(1) : 1 / (static_cast<T>(h) * w), root = near ? T(1) : 1 / std::sqrt(static_cast<T>(h) * w);
        const T* measured = scene_.amplitudes(k);
        const T* good = static_cast<const T*>(scene_.p.good);
        T* row = d.row.get();
        for (int y = 0; y < h; ++y) {
            for (int x = 0; x < w; ++x) row[x] = 0;
            for (const Field<T>& field : there) {
                const Row<T> s = field.row(y);
                PTY_SIMD
                for (int x = 0; x < w; ++x) row[x] += unit * (s.re[x] * s.re[x] + s.im[x] * s.im[x]);
            }
            const Misfit one = misfit(q.loss, static_cast<T>(q.floor), static_cast<T>(q.scale), row, measured + y * w, good ? good + y * w : nullptr, w);
            found.value += one.value, found.error += one.error;
            for (Field<T>& field : there) {
                const Row<T> s = field.row(y);
                PTY_SIMD
                for (int x = 0; x < w; ++x) {
                    const T times = 2 * root * root * row[x];
                    s.re[x] *= times;
                    s.im[x] *= times;
                }
                clear_row(Row<T>{s.re + w, s.im + w}, pw - w);
            }
        }
        for (Field<T>& field : there) clear_rows(field, h, ph);
    }

    // Through the kernel of the near field, or its adjoint; the shift that the detector did not follow is undone.
    void through(Desk& d, Plane<T> s, const PtyGradient& q, bool back) {
        const Plane<T> kernel = kernel_.plane();
        const T sign = back ? -1 : 1, unit = T(1) / (static_cast<T>(ph) * pw);
        for (int y = 0; y < ph; ++y) {
            const Row<T> wave = s.row(y), factor = kernel.row(y);
            PTY_SIMD
            for (int x = 0; x < pw; ++x) {
                const T a = unit * wave.re[x], b = unit * wave.im[x], c = sign * factor.im[x];
                wave.re[x] = a * factor.re[x] - b * c;
                wave.im[x] = a * c + b * factor.re[x];
            }
        }
        if (q.sampling == 1) ramped<T>(s, s, d.padded_ramps.get(), d.padded_ramps.get() + 2 * ph, ph, pw, !back, 1, false);
    }

    // Adds sign · Σ 2π f Im(a* b) along both axes: what a shift of b by exp(-2πi f s), times the sign, changes.
    static void turned(Plane<T> a, Plane<T> b, int rows, int columns, T sign, double* push) {
        const T unit = sign * static_cast<T>(TURN);
        const int half = (columns + 1) / 2;
        for (int y = 0; y < rows; ++y) {
            const Row<T> one = a.row(y), other = b.row(y);
            T all = 0, across = 0;
            PTY_SIMD
            for (int x = 0; x < columns; ++x) {
                const T c = one.re[x] * other.im[x] - one.im[x] * other.re[x];
                all += c;
                across += c * (x < half ? x : x - columns);
            }
            push[0] += unit * frequency(y, rows) * all;
            push[1] += unit / columns * across;
        }
    }
    // Re Σ a* i bend b
    double bent(Plane<T> a, Plane<T> b, const T* bend) const {
        double sum = 0;
        for (int y = 0; y < ph; ++y) {
            const Row<T> one = a.row(y), other = b.row(y);
            const T* phase = bend + static_cast<std::ptrdiff_t>(y) * pw;
            T row = 0;
            PTY_SIMD
            for (int x = 0; x < pw; ++x) row -= phase[x] * (one.re[x] * other.im[x] - one.im[x] * other.re[x]);
            sum += row;
        }
        return sum;
    }

    // to (+)= a* b
    void product(Plane<T> a, Plane<T> b, Plane<T> to, bool add) const {
        const T keep = add ? 1 : 0;
        for (int y = 0; y < h; ++y) {
            const T *are = a.re + y * a.pitch, *aim = a.im + y * a.pitch, *bre = b.re + y * b.pitch, *bim = b.im + y * b.pitch;
            T *re = to.re + y * to.pitch, *im = to.im + y * to.pitch;
            PTY_SIMD
            for (int x = 0; x < w; ++x) {
                re[x] = keep * re[x] + are[x] * bre[x] + aim[x] * bim[x];
                im[x] = keep * im[x] + are[x] * bim[x] - aim[x] * bre[x];
            }
        }
    }

    void interpolate(Plane<T> canvas, const Blend& b, Plane<T> to) const {
        const T w00 = (1 - b.fy) * (1 - b.fx), w01 = (1 - b.fy) * b.fx, w10 = b.fy * (1 - b.fx), w11 = b.fy * b.fx;
        const std::ptrdiff_t down = b.below ? canvas.pitch : 0, over = b.right ? 1 : 0;
        const Plane<T> from = canvas.window(b.y, b.x);
        for (int y = 0; y < h; ++y)
            for (int part = 0; part < 2; ++part) {
                const T* o = (part ? from.im : from.re) + y * from.pitch;
                T* out = (part ? to.im : to.re) + y * to.pitch;
                PTY_SIMD
                for (int x = 0; x < w; ++x) out[x] = w00 * o[x] + w01 * o[x + over] + w10 * o[x + down] + w11 * o[x + down + over];
            }
    }
    // The adjoint, added to a canvas; and what moving the window would change, Re Σ g* ∂V.
    void scatter(Plane<T> g, Plane<T> canvas, const Blend& b, Plane<T> pull, bool moving, double* push) const {
        const T w00 = (1 - b.fy) * (1 - b.fx), w01 = (1 - b.fy) * b.fx, w10 = b.fy * (1 - b.fx), w11 = b.fy * b.fx;
        const std::ptrdiff_t down = b.below ? canvas.pitch : 0, over = b.right ? 1 : 0;
        const Plane<T> from = canvas.window(b.y, b.x), to = pull.window(b.y, b.x);
        for (int y = 0; y < h; ++y)
            for (int part = 0; part < 2; ++part) {
                const T *o = (part ? from.im : from.re) + y * from.pitch, *in = (part ? g.im : g.re) + y * g.pitch;
                T* out = (part ? to.im : to.re) + y * to.pitch;
                PTY_SIMD
                for (int x = 0; x < w; ++x) out[x] += w00 * in[x];
                PTY_SIMD
                for (int x = 0; x < w; ++x) out[x + over] += w01 * in[x];
                PTY_SIMD
                for (int x = 0; x < w; ++x) out[x + down] += w10 * in[x];
                PTY_SIMD
                for (int x = 0; x < w; ++x) out[x + down + over] += w11 * in[x];
                if (!moving) continue;
                T along_y = 0, along_x = 0;
                PTY_SIMD
                for (int x = 0; x < w; ++x) {
                    const T a = o[x], c = o[x + over], e = o[x + down], f = o[x + down + over];
                    along_y += in[x] * ((1 - b.fx) * (e - a) + b.fx * (f - c));
                    along_x += in[x] * ((1 - b.fy) * (c - a) + b.fy * (f - e));
                }
                push[0] += along_y, push[1] += along_x;
            }
    }

    const Scene<T> scene_;
    const int M, h, w, H, W;
    int N = 0, ph = 0, pw = 0;
    std::vector<Field<T>> object_, held_;  // `held_`: the probe, or its spectrum where it is shifted
    Field<T> kernel_;
    std::vector<std::unique_ptr<Desk>> desks_;
    Crew crew_;
};

// One step of Adam on complex numbers (count pixels of some modes), whose second moment is Σ|g|² of a pixel's modes.
template <class T>
void adam(int64_t modes, int64_t count, T* values, const T* gradient, T* first, T* second, const T* bend, T rate, T beta1, T beta2, T turn, T spread, T epsilon) {
    FlushTiny flush;
    constexpr int64_t block = 256;
    T steps[block];
    for (int64_t begin = 0; begin < count; begin += block) {
        const int64_t size = std::min(block, count - begin);
        std::fill_n(steps, size, T(0));
        for (int64_t m = 0; m < modes; ++m) {
            const T* g = gradient + 2 * (m * count + begin);
            PTY_SIMD
            for (int64_t i = 0; i < size; ++i) steps[i] += g[2 * i] * g[2 * i] + g[2 * i + 1] * g[2 * i + 1];
        }
        PTY_SIMD
        for (int64_t i = 0; i < size; ++i) {
            const T moment = beta2 * second[begin + i] + (1 - beta2) * steps[i];
            second[begin + i] = moment;
            steps[i] = rate * turn / (std::sqrt(moment * spread) + epsilon * (bend ? bend[begin + i] : T(1)));
        }
        for (int64_t m = 0; m < modes; ++m) {
            const int64_t at = 2 * (m * count + begin);
            PTY_SIMD
            for (int64_t i = 0; i < size; ++i) {
                const T re = beta1 * first[at + 2 * i] + (1 - beta1) * gradient[at + 2 * i];
                const T im = beta1 * first[at + 2 * i + 1] + (1 - beta1) * gradient[at + 2 * i + 1];
                first[at + 2 * i] = re, first[at + 2 * i + 1] = im;
                values[at + 2 * i] -= steps[i] * re, values[at + 2 * i + 1] -= steps[i] * im;
            }
        }
    }
}

// Σ [(|∂y O|² + ε)^(p/2) + (|∂x O|² + ε)^(p/2)]^(q/p) of forward differences, and its gradient.
template <class T>
double variation(int64_t rows, int64_t columns, const T* object, T* gradient, double p, double q, T epsilon) {
    FlushTiny flush;
    const bool plain = p == 2 && q == 1;
    std::vector<T> down(2 * columns, T(0)), over(2 * columns, T(0));  // the terms of the row above, and of this one
    std::vector<T> weight(2 * columns);
    double sum = 0;
    for (int64_t y = 0; y < rows; ++y) {
        const T *here = object + 2 * y * columns, *below = y + 1 < rows ? here + 2 * columns : here;
        T* out = gradient + 2 * y * columns;
        for (int64_t i = 0; i < 2 * columns; ++i) out[i] = down[i];
        T *wy = weight.data(), *wx = weight.data() + columns, total = 0;
        const auto squared = [&](int64_t x, T& a, T& b) {
            const int64_t r = 2 * (x + 1 < columns ? x + 1 : x), i = 2 * x;
            const T ay = below[i] - here[i], by = below[i + 1] - here[i + 1], ax = here[r] - here[i], bx = here[r + 1] - here[i + 1];
            a = ay * ay + by * by + epsilon, b = ax * ax + bx * bx + epsilon;
        };
        if (plain) {
            PTY_SIMD
            for (int64_t x = 0; x < columns; ++x) {
                T a, b;
                squared(x, a, b);
                const T root = std::sqrt(a + b);
                total += root;
                wy[x] = wx[x] = 1 / root;
            }
        } else {
            for (int64_t x = 0; x < columns; ++x) {
                T a, b;
                squared(x, a, b);
                const double pa = std::pow(static_cast<double>(a), p / 2), pb = std::pow(static_cast<double>(b), p / 2), s = pa + pb;
                const double outer = q * std::pow(s, q / p - 1);
                total += static_cast<T>(std::pow(s, q / p));
                wy[x] = static_cast<T>(outer * pa / a), wx[x] = static_cast<T>(outer * pb / b);
            }
        }
        sum += total;
        PTY_SIMD
        for (int64_t x = 0; x < columns; ++x) {
            const int64_t r = 2 * (x + 1 < columns ? x + 1 : x), i = 2 * x;
            down[i] = wy[x] * (below[i] - here[i]), down[i + 1] = wy[x] * (below[i + 1] - here[i + 1]);
            over[i] = wx[x] * (here[r] - here[i]), over[i + 1] = wx[x] * (here[r + 1] - here[i + 1]);
        }
        PTY_SIMD
        for (int64_t i = 0; i < 2 * columns; ++i) out[i] -= down[i] + over[i];
        PTY_SIMD
        for (int64_t i = 2; i < 2 * columns; ++i) out[i] += over[i - 2];
    }
    return sum;
}

}  // namespace pty
