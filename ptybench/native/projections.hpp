// An epoch of the projection methods: what ptybench/engines/projection.py and ADMM do in torch.

#pragma once

#include "bench.hpp"

extern "C" {

struct PtyProjection {
    void* residual;    // (K, M, h, w) complex
    void* multiplier;  // (K, M, h, w) complex of ADMM; or null
    void* shifted;     // (K, M, h, w) complex, the probe as each pattern sees it; or null where it is shifted anew
    double reflection, relaxation, bound;  // of the reflection methods
    double beta;                           // of ADMM
    int64_t poisson;
    int64_t first, end;                    // of the patterns that `advance` changes
};
}

namespace pty {

// The steps of ADMM on the modulus: the wave times (prox - ρ) / ρ.
template <class T>
struct Proximal {
    static constexpr bool whole = false;
    T beta;
    bool poisson;
    T apply(T* row, const T* measured, const T* good, int count) const {
        if (poisson) return good ? run<true, true>(row, measured, good, count) : run<true, false>(row, measured, good, count);
        return good ? run<false, true>(row, measured, good, count) : run<false, false>(row, measured, good, count);
    }
    template <bool of_counts, bool masked>
    T run(T* row, const T* measured, const T* good, int count) const {
        T squared = 0;
        const T scale = 1 / (1 + beta);
        PTY_SIMD
        for (int x = 0; x < count; ++x) {
            const T modulus = std::sqrt(row[x]), a = measured[x], pull = beta * modulus;
            const T there = of_counts ? T(0.5) * scale * (pull + std::sqrt(pull * pull + 4 * (1 + beta) * a * a))
                                      : scale * (a + pull);
            const T trust = masked ? good[x] : T(1), gap = trust * (a - modulus);
            squared += gap * gap;
            row[x] = trust * (there - modulus) / modulus;
        }
        return squared;
    }
};

template <class T>
class Projections {
  public:
    Projections(const PtyProblem& p, int threads)
        : scene_(p), M(p.modes), h(p.h), w(p.w), object_(p.H, p.W), mirrored_(p.H, p.W), probe_(fields<T>(M, h, w)),
          crew_(threads) {
        for (int i = 0; i < threads; ++i) desks_.push_back(std::make_unique<Desk>(scene_));
    }

    // Changes the residuals of patterns q.first to q.end as the method says. `object` and `mirrored` are (H, W), `probe` the modes, or their spectra
    // where positions have fractions. Adds Σ_j O_j* δ_j, shifted back, to `pull` (M, h, w; spectra where `probe` is), and
    // Σ_j |O_j|² to `weight` (h, w), where they are given.
    double advance(const PtyProjection& q, const T* object, const T* mirrored, const T* probe, T* pull, T* weight) {
        FlushTiny flush;
        spread(object, object_.plane(), scene_.H, scene_.W);
        spread(mirrored, mirrored_.plane(), scene_.H, scene_.W);
        for (int m = 0; m < M; ++m) spread(probe + pixels() * m, probe_[m].plane(), h, w);
        std::vector<double> errors(crew_.size(), 0.0);
        each([&](Desk& desk, int t, int k) {
            desk.turn_to(k);
            see(desk, q, k);
            errors[t] += change(desk, q, k);
            if (pull) pulled(desk, k);
        }, pull != nullptr, false, q.first, q.end);
        double error = 0;
        for (double e : errors) error += e;
        if (!pull) return error;
        for (auto& desk : desks_)
            for (int y = 0; y < h; ++y) {
                for (int m = 0; m < M; ++m) add_interleaved(desk->pull[m].plane(), pull + pixels() * m, y, w);
                const T* light = desk->light.plane().re + y * desk->light.plane().pitch;
                for (int x = 0; x < w; ++x) weight[y * w + x] += light[x];
            }
        return error;
    }

    // Counts the residuals from a changed probe, where `change` (as `probe`) is given; adds Σ_jm P_m* δ_jm to `pull` and,
    // where it is given, Σ_jm |P_m|² to `light`, both (H, W).
    void average(const PtyProjection& q, const T* object, const T* probe, const T* change, T* pull, T* light) {
        FlushTiny flush;
        spread(object, object_.plane(), scene_.H, scene_.W);
        for (int m = 0; m < M; ++m) spread(probe + pixels() * m, probe_[m].plane(), h, w);
        if (change) {
            while (static_cast<int>(change_.size()) < M) change_.emplace_back(h, w);
            for (int m = 0; m < M; ++m) spread(change + pixels() * m, change_[m].plane(), h, w);
        }
        each([&](Desk& desk, int, int k) {
            desk.turn_to(k);
            collect(desk, q, k, change != nullptr, light != nullptr);
        }, false, true, 0, scene_.K);
        crew_.run([&](int t) {
            const int threads = crew_.size(), H = scene_.H, W = scene_.W;
            for (int y = H * t / threads; y < H * (t + 1) / threads; ++y)
                for (auto& desk : desks_) {
                    add_interleaved(desk->moves.plane(), pull, y, W);
                    if (!light) continue;
                    const T* from = desk->cover.plane().re + y * desk->cover.plane().pitch;
                    T* to = light + static_cast<std::ptrdiff_t>(y) * W;
                    PTY_SIMD
                    for (int x = 0; x < W; ++x) to[x] += from[x];
                }
        });
    }

  private:
    struct Desk : Bench<T> {
        explicit Desk(const Scene<T>& scene)
            : Bench<T>(scene),
              shifted(scene.shifting() ? fields<T>(scene.M, scene.h, scene.w) : std::vector<Field<T>>()),
              pull(fields<T>(scene.M, scene.h, scene.w)),
              light(scene.h, scene.w),
              moves(scene.H, scene.W),
              cover(scene.H, scene.W) {}
        std::vector<Field<T>> shifted, pull;
        Field<T> light, moves, cover;
    };
    std::ptrdiff_t pixels() const { return 2 * static_cast<std::ptrdiff_t>(h) * w; }
    std::ptrdiff_t at(int k, int m, int y) const { return 2 * (((static_cast<std::ptrdiff_t>(k) * M + m) * h + y) * w); }
    bool shifting() const { return scene_.shifting(); }

    template <class Work>
    void each(Work work, bool clear_pulls, bool clear_canvases, std::int64_t first, std::int64_t end) {
        crew_.run([&](int t) {
            const int threads = crew_.size();
            Desk& desk = *desks_[t];
            if (clear_pulls) {
                for (auto& field : desk.pull) field.clear();
                desk.light.clear();
            }
            if (clear_canvases) {
                desk.moves.clear();
                desk.cover.clear();
            }
            for (std::int64_t k = first + (end - first) * t / threads; k < first + (end - first) * (t + 1) / threads; ++k)
                work(desk, t, static_cast<int>(k));
        });
    }

    // The probe as pattern k sees it, in desk.shifted where positions have fractions.
    void see(Desk& desk, const PtyProjection& q, int k) {
        if (!shifting()) return;
        if (!q.shifted) return desk.shift(probe_, desk.shifted);
        for (int m = 0; m < M; ++m) spread(static_cast<const T*>(q.shifted) + at(k, m, 0), desk.shifted[m].plane(), h, w);
    }
    std::vector<Field<T>>& probe(Desk& desk) { return shifting() ? desk.shifted : probe_; }

    // δ ← b (Π_F − 1)(P O − γ δ), where O − γ (O_old − O) is `mirrored`; or ADMM's step.
    double change(Desk& desk, const PtyProjection& q, int k) {
        const bool admm = q.multiplier != nullptr;
        const T back = admm ? T(1) : T(q.reflection);
        const Plane<T> o = scene_.window(admm ? object_ : mirrored_, k);
        T* kept = static_cast<T*>(admm ? q.multiplier : q.residual);
        for (int m = 0; m < M; ++m)
            for (int y = 0; y < h; ++y) {
                const Plane<T> pr = probe(desk)[m].plane(), wave = desk.waves[m].plane();
                const T *pre = pr.re + y * pr.pitch, *pim = pr.im + y * pr.pitch;
                const T *ore = o.re + y * o.pitch, *oim = o.im + y * o.pitch, *from = kept + at(k, m, y);
                T *re = wave.re + y * wave.pitch, *im = wave.im + y * wave.pitch;
                PTY_SIMD
                for (int x = 0; x < w; ++x) {
                    re[x] = pre[x] * ore[x] - pim[x] * oim[x] - back * from[2 * x];
                    im[x] = pre[x] * oim[x] + pim[x] * ore[x] - back * from[2 * x + 1];
                }
            }
        const double error = admm ? desk.constrain(Proximal<T>{T(q.beta), q.poisson != 0}) : desk.constrain(Modulus<T>());
        T scale = q.relaxation;
        if (!admm && q.bound > 0) {
            double deviation = 0;
            for (int m = 0; m < M; ++m)
                for (int y = 0; y < h; ++y) {
                    const Plane<T> wave = desk.waves[m].plane();
                    const T *re = wave.re + y * wave.pitch, *im = wave.im + y * wave.pitch;
                    T sum = 0;
                    PTY_SIMD
                    for (int x = 0; x < w; ++x) sum += re[x] * re[x] + im[x] * im[x];
                    deviation += sum;
                }
            scale *= 1 - std::min(std::sqrt(q.bound / std::max(deviation, 1e-30)), 1.0);
        }
        for (int m = 0; m < M; ++m)
            for (int y = 0; y < h; ++y) {
                const Plane<T> wave = desk.waves[m].plane();
                T *re = wave.re + y * wave.pitch, *im = wave.im + y * wave.pitch;
                T *residual = static_cast<T*>(q.residual) + at(k, m, y), *multiplier = kept + at(k, m, y);
                if (admm) {
                    PTY_SIMD
                    for (int x = 0; x < w; ++x) {
                        const T a = re[x], b = im[x];
                        re[x] = 2 * a - multiplier[2 * x];
                        im[x] = 2 * b - multiplier[2 * x + 1];
                        multiplier[2 * x] = a;
                        multiplier[2 * x + 1] = b;
                    }
                } else {
                    PTY_SIMD
                    for (int x = 0; x < w; ++x) re[x] *= scale, im[x] *= scale;
                }
                PTY_SIMD
                for (int x = 0; x < w; ++x) {
                    residual[2 * x] = re[x];
                    residual[2 * x + 1] = im[x];
                }
            }
        return error;
    }

    // Adds O* δ, shifted back, and |O|² to the desk's sums; the residual is in desk.waves.
    void pulled(Desk& desk, int k) {
        const Plane<T> o = scene_.window(object_, k), light = desk.light.plane();
        for (int y = 0; y < h; ++y) {
            const T *ore = o.re + y * o.pitch, *oim = o.im + y * o.pitch;
            T* weight = light.re + y * light.pitch;
            PTY_SIMD
            for (int x = 0; x < w; ++x) weight[x] += ore[x] * ore[x] + oim[x] * oim[x];
            for (int m = 0; m < M; ++m) {
                const Plane<T> wave = desk.waves[m].plane(), to = shifting() ? wave : desk.pull[m].plane();
                const T stay = shifting() ? 0 : 1;
                T *re = wave.re + y * wave.pitch, *im = wave.im + y * wave.pitch;
                T *tre = to.re + y * to.pitch, *tim = to.im + y * to.pitch;
                PTY_SIMD
                for (int x = 0; x < w; ++x) {
                    const T a = re[x], b = im[x];
                    tre[x] = stay * tre[x] + ore[x] * a + oim[x] * b;
                    tim[x] = stay * tim[x] + ore[x] * b - oim[x] * a;
                }
            }
        }
        if (shifting()) desk.shift_back(desk.pull);
    }

    void collect(Desk& desk, const PtyProjection& q, int k, bool changed, bool light) {
        // where the shifted probes are kept they follow the change, else they are made of the new probe
        if (shifting() && changed) desk.shift(change_, desk.waves);
        see(desk, q, k);
        const Plane<T> o = scene_.window(object_, k), moves = scene_.window(desk.moves, k), cover = scene_.window(desk.cover, k);
        for (int m = 0; m < M; ++m)
            for (int y = 0; y < h; ++y) {
                const Plane<T> pr = probe(desk)[m].plane();
                T *pre = pr.re + y * pr.pitch, *pim = pr.im + y * pr.pitch;
                T* residual = static_cast<T*>(q.residual) + at(k, m, y);
                if (changed) {
                    const Plane<T> moved = (shifting() ? desk.waves : change_)[m].plane();
                    const T *are = moved.re + y * moved.pitch, *aim = moved.im + y * moved.pitch;
                    const T *ore = o.re + y * o.pitch, *oim = o.im + y * o.pitch;
                    PTY_SIMD
                    for (int x = 0; x < w; ++x) {
                        residual[2 * x] -= are[x] * ore[x] - aim[x] * oim[x];
                        residual[2 * x + 1] -= are[x] * oim[x] + aim[x] * ore[x];
                    }
                    if (shifting() && q.shifted) {
                        T* kept = static_cast<T*>(q.shifted) + at(k, m, y);
                        PTY_SIMD
                        for (int x = 0; x < w; ++x) {
                            pre[x] += are[x];
                            pim[x] += aim[x];
                            kept[2 * x] = pre[x];
                            kept[2 * x + 1] = pim[x];
                        }
                    }
                }
                T *mre = moves.re + y * moves.pitch, *mim = moves.im + y * moves.pitch;
                PTY_SIMD
                for (int x = 0; x < w; ++x) {
                    mre[x] += pre[x] * residual[2 * x] + pim[x] * residual[2 * x + 1];
                    mim[x] += pre[x] * residual[2 * x + 1] - pim[x] * residual[2 * x];
                }
                if (!light) continue;
                T* to = cover.re + y * cover.pitch;
                PTY_SIMD
                for (int x = 0; x < w; ++x) to[x] += pre[x] * pre[x] + pim[x] * pim[x];
            }
    }

    static void add_interleaved(Plane<T> from, T* to, int y, int columns) {
        const T *re = from.re + y * from.pitch, *im = from.im + y * from.pitch;
        T* row = to + 2 * static_cast<std::ptrdiff_t>(y) * columns;
        PTY_SIMD
        for (int x = 0; x < columns; ++x) {
            row[2 * x] += re[x];
            row[2 * x + 1] += im[x];
        }
    }

    const Scene<T> scene_;
    const int M, h, w;
    Field<T> object_, mirrored_;
    std::vector<Field<T>> probe_, change_;
    std::vector<std::unique_ptr<Desk>> desks_;
    Crew crew_;
};

}  // namespace pty
