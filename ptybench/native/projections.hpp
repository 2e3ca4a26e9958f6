// An epoch of the projection methods: what ptybench/engines/projection.py and ADMM do in torch.

#pragma once

#include "bench.hpp"

extern "C" {

struct PtyProjection {
    void* residual;    // (K, M, h, w) complex
    void* multiplier;  // (K, M, h, w) complex of ADMM; or null
    void* shifted;     // (K, M, h, w) complex, the probe as each pattern sees it; or null where it is shifted anew
    const void* base;  // (H, W) complex and
    const void* owed;  // (M, h, w) complex: the residuals are still to be counted from P + owed at this object; or nulls
    double reflection, relaxation, bound;  // of the reflection methods
    double beta;                           // of ADMM
    int64_t poisson;
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
        const T beta = this->beta, scale = 1 / (1 + beta);  // a member might be thought to be part of the row
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

    // Changes all residuals as the method says. `object` and `mirrored` are (H, W), `probe` the modes, or their spectra
    // where positions have fractions. Adds Σ_j O_j* δ_j, shifted back, to `pull` (M, h, w; spectra where `probe` is), and
    // Σ_j |O_j|² to `weight` (h, w), where they are given.
    double advance(const PtyProjection& q, const T* object, const T* mirrored, const T* probe, T* pull, T* weight) {
        FlushTiny flush;
        spread(object, object_.plane(), scene_.H, scene_.W);
        spread(mirrored, mirrored_.plane(), scene_.H, scene_.W);
        take(probe_, probe);
        if (q.owed) {
            if (!base_.size()) base_ = Field<T>(scene_.H, scene_.W);
            spread(static_cast<const T*>(q.base), base_.plane(), scene_.H, scene_.W);
            take(owed_, static_cast<const T*>(q.owed));
        }
        std::vector<double> errors(crew_.size(), 0.0);
        each([&](Desk& desk, int t, int k) {
            desk.turn_to(k);
            see(desk, q, k);
            errors[t] += change(desk, q, k);
            if (pull) pulled(desk, k);
        }, pull != nullptr, false);
        double error = 0;
        for (double e : errors) error += e;
        if (!pull) return error;
        for (auto& desk : desks_)
            for (int y = 0; y < h; ++y) {
                for (int m = 0; m < M; ++m) add_interleaved(desk->pull[m].row(y), pull + pixels() * m + 2 * y * w, w);
                const T* light = desk->light.row(y).re;
                for (int x = 0; x < w; ++x) weight[y * w + x] += light[x];
            }
        return error;
    }

    // Adds Σ_jm P_m* δ_jm, with residuals counted from a probe that `change` (as `probe`) has made what it is, where that
    // is given, to `pull` and, where it is given, Σ_jm |P_m|² to `light`, both (H, W). The residuals themselves are
    // counted from the changed probe only where positions have fractions; elsewhere they owe it.
    void average(const PtyProjection& q, const T* object, const T* probe, const T* change, T* pull, T* light) {
        FlushTiny flush;
        spread(object, object_.plane(), scene_.H, scene_.W);
        take(probe_, probe);
        if (change) take(owed_, change);
        each([&](Desk& desk, int, int k) {
            desk.turn_to(k);
            collect(desk, q, k, change != nullptr, light != nullptr);
        }, false, true);
        crew_.run([&](int t) {
            const int threads = crew_.size(), H = scene_.H, W = scene_.W;
            for (int y = H * t / threads; y < H * (t + 1) / threads; ++y)
                for (auto& desk : desks_) {
                    add_interleaved(desk->moves.row(y), pull + 2 * static_cast<std::ptrdiff_t>(y) * W, W);
                    if (!light) continue;
                    const T* from = desk->cover.row(y).re;
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
              pull(fields<T>(scene.M, scene.h, scene.w)),
              light(scene.h, scene.w),
              moves(scene.H, scene.W),
              cover(scene.H, scene.W) {}
        std::vector<Field<T>> pull;
        Field<T> light, moves, cover;
    };
    std::ptrdiff_t pixels() const { return 2 * static_cast<std::ptrdiff_t>(h) * w; }
    std::ptrdiff_t at(int k, int m, int y) const { return 2 * (((static_cast<std::ptrdiff_t>(k) * M + m) * h + y) * w); }
    bool shifting() const { return scene_.shifting(); }

    template <class Work>
    void each(Work work, bool clear_pulls, bool clear_canvases) {
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
            for (std::int64_t k = static_cast<std::int64_t>(scene_.K) * t / threads;
                 k < static_cast<std::int64_t>(scene_.K) * (t + 1) / threads; ++k)
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
        const Plane<T> o = scene_.window(admm ? object_ : mirrored_, k), base = scene_.window(base_, k);
        T* kept = static_cast<T*>(admm ? q.multiplier : q.residual);
        for (int m = 0; m < M; ++m)
            for (int y = 0; y < h; ++y) {
                const Row<T> wave = desk.waves[m].row(y);
                const T* from = kept + at(k, m, y);
                product(probe(desk)[m].row(y), o.row(y), wave, w);
                if (q.owed && !admm) add_product(owed_[m].row(y), base.row(y), wave, back, w);
                PTY_SIMD
                for (int x = 0; x < w; ++x) {
                    wave.re[x] -= back * from[2 * x];
                    wave.im[x] -= back * from[2 * x + 1];
                }
            }
        const double error = admm ? desk.constrain(Proximal<T>{T(q.beta), q.poisson != 0}) : desk.constrain(Modulus<T>());
        const T scale = admm ? T(1) : relaxed(desk, q);
        for (int m = 0; m < M; ++m)
            for (int y = 0; y < h; ++y) {
                const Row<T> wave = desk.waves[m].row(y);
                T* multiplier = kept + at(k, m, y);
                if (admm) {
                    PTY_SIMD
                    for (int x = 0; x < w; ++x) {
                        const T a = wave.re[x], b = wave.im[x];
                        wave.re[x] = 2 * a - multiplier[2 * x];
                        wave.im[x] = 2 * b - multiplier[2 * x + 1];
                        multiplier[2 * x] = a;
                        multiplier[2 * x + 1] = b;
                    }
                } else {
                    scale_row(wave, scale, w);
                }
                stream_row(wave, static_cast<T*>(q.residual) + at(k, m, y), w);
            }
        return error;
    }
    // The share of the change that a reflection method takes: less where a pattern counts as met.
    T relaxed(Desk& desk, const PtyProjection& q) {
        if (!(q.bound > 0)) return q.relaxation;
        double deviation = 0;
        T* power = desk.row(0);
        for (int y = 0; y < h; ++y) {
            std::fill_n(power, w, T(0));
            for (int m = 0; m < M; ++m) add_power(desk.waves[m].row(y), power, w);
            T sum = 0;
            PTY_SIMD
            for (int x = 0; x < w; ++x) sum += power[x];
            deviation += sum;
        }
        return q.relaxation * (1 - std::min(std::sqrt(q.bound / std::max(deviation, 1e-30)), 1.0));
    }

    // Adds O* δ, shifted back, and |O|² to the desk's sums; the residual is in desk.waves.
    void pulled(Desk& desk, int k) {
        const Plane<T> o = scene_.window(object_, k);
        for (int y = 0; y < h; ++y) {
            add_power(o.row(y), desk.light.row(y).re, w);
            for (int m = 0; m < M; ++m)
                pull(o.row(y), desk.waves[m].row(y), (shifting() ? desk.waves : desk.pull)[m].row(y), w, !shifting());
        }
        if (shifting()) desk.shift_back(desk.pull);
    }

    void collect(Desk& desk, const PtyProjection& q, int k, bool changed, bool light) {
        // where the shifted probes are kept they follow the change, else they are made of the new probe
        if (shifting() && changed) desk.shift(owed_, desk.waves);
        see(desk, q, k);
        const Plane<T> o = scene_.window(object_, k), moves = scene_.window(desk.moves, k), cover = scene_.window(desk.cover, k);
        T *re = desk.row(0), *im = desk.row(1);
        for (int m = 0; m < M; ++m)
            for (int y = 0; y < h; ++y) {
                const Row<T> p = probe(desk)[m].row(y), found{re, im};
                T* residual = static_cast<T*>(q.residual) + at(k, m, y);
                read_row(residual, found, w);
                if (changed) {
                    const Row<T> move = (shifting() ? desk.waves : owed_)[m].row(y);
                    add_product(move, o.row(y), found, T(-1), w);
                    if (shifting()) write_row(found, residual, w);
                    if (shifting() && q.shifted) {
                        add_row(desk.waves[m].plane(), desk.shifted[m].plane(), y, w, T(1));
                        write_row(p, static_cast<T*>(q.shifted) + at(k, m, y), w);
                    }
                }
                pull(p, found, moves.row(y), w, true);
                if (light) add_power(p, cover.row(y).re, w);
            }
    }
    void take(std::vector<Field<T>>& held, const T* modes) {
        while (static_cast<int>(held.size()) < M) held.emplace_back(h, w);
        for (int m = 0; m < M; ++m) spread(modes + pixels() * m, held[m].plane(), h, w);
    }

    const Scene<T> scene_;
    const int M, h, w;
    Field<T> object_, mirrored_, base_;
    std::vector<Field<T>> probe_, owed_;
    std::vector<std::unique_ptr<Desk>> desks_;
    Crew crew_;
};

}  // namespace pty
