// The visits of the PIE family: what ptybench/engines/sequential.py does in torch.

#pragma once

#include "bench.hpp"

extern "C" {

// γ / ((1-d) p + d max p) with the power p of the other field; times √(p / max p) where it is trusted by brightness
struct PtyRule {
    double step, damping;
    int64_t trusted;
};

// Memory of exit waves: the constraint is applied to (1+σ) P O - σ ψ, the change scaled by `keep`, ψ ← P O + change.
struct PtyMemory {
    void* waves;  // (K, M, h, w) complex; or null
    double sigma, keep;
};
}

namespace pty {

template <class T>
struct Weight {
    Weight(PtyRule rule, T largest)
        : step(rule.step), part(1 - rule.damping), floor(T(rule.damping) * largest), scale(1 / largest), trusted(rule.trusted) {}
    void apply(const T* power, T* weight, int count) const {
        if (trusted)
            PTY_SIMD
            for (int x = 0; x < count; ++x) weight[x] = step * std::sqrt(power[x] * scale) / (part * power[x] + floor);
        else
            PTY_SIMD
            for (int x = 0; x < count; ++x) weight[x] = step / (part * power[x] + floor);
    }
    T step, part, floor, scale;
    bool trusted;
};

template <class T>
class Visits {
  public:
    Visits(const PtyProblem& p, int threads)
        : scene_(p),
          M(p.modes), h(p.h), w(p.w), H(p.H), W(p.W),
          object_(H, W),
          held_(fields<T>(M, h, w)),
          crew_(threads) {
        for (int i = 0; i < threads; ++i) desks_.push_back(std::make_unique<Desk>(scene_));
    }

    double visits(const int64_t* order, int64_t count, int64_t batch, bool mean, bool refine, T* object, T* probe,
                  PtyRule object_rule, PtyRule probe_rule, const PtyMemory& memory) {
        FlushTiny flush;
        spread(object, object_.plane(), H, W);
        for (int m = 0; m < M; ++m) spread(probe + 2L * m * h * w, held_[m].plane(), h, w);
        largest_probe_ = unknown;
        double error = 0;
        if (batch == 1)
            for (int64_t i = 0; i < count; ++i) error += visit(order[i], refine, object_rule, probe_rule, memory);
        else
            for (int64_t i = 0; i < count; i += batch)
                error += together(order + i, std::min(batch, count - i), mean, refine, object_rule, probe_rule, memory);
        gather(object_.plane(), object, H, W);
        if (refine)
            for (int m = 0; m < M; ++m) gather(held_[m].plane(), probe + 2L * m * h * w, h, w);
        return error;
    }

  private:
    struct Desk : Bench<T> {
        explicit Desk(const Scene<T>& scene)
            : Bench<T>(scene), shifted(scene.shifting() ? fields<T>(scene.M, scene.h, scene.w) : std::vector<Field<T>>()), probe(scene.M) {}
        std::vector<Field<T>> shifted;
        std::vector<Plane<T>> probe;  // of each mode, where this pattern sees it
        T largest_object = 0, largest_probe = 0;
    };
    bool shifting() const { return scene_.shifting(); }
    Plane<T> patch(int k) const { return scene_.window(object_, k); }

    // Looks at pattern k: exit waves, then their change by the modulus constraint, which is left in `waves`. Returns the
    // squared error. `largest_probe` is found where it is unknown.
    double look(Desk& desk, int k, const PtyMemory& memory) {
        desk.turn_to(k);
        if (shifting()) desk.shift(held_, desk.shifted);
        for (int m = 0; m < M; ++m) desk.probe[m] = (shifting() ? desk.shifted : held_)[m].plane();
        exit_waves(desk, k, memory);
        const double error = desk.constrain(Modulus<T>());
        if (memory.waves) remember(desk, k, memory);
        return error;
    }
    T* remembered(const PtyMemory& memory, int k, int m, int y) const {
        return static_cast<T*>(memory.waves) + 2 * (((static_cast<std::ptrdiff_t>(k) * M + m) * h + y) * w);
    }
    void exit_waves(Desk& desk, int k, const PtyMemory& memory) {
        const Plane<T> o = patch(k);
        const bool find = desk.largest_probe == unknown;
        T most_object = 0, most_probe = 0;
        T* sum = desk.row(0);
        const T sigma = memory.sigma;
        for (int y = 0; y < h; ++y) {
            const T *ore = o.re + y * o.pitch, *oim = o.im + y * o.pitch;
            PTY_SIMD
            for (int x = 0; x < w; ++x) most_object = std::max(most_object, ore[x] * ore[x] + oim[x] * oim[x]);
            PTY_SIMD
            for (int x = 0; x < w; ++x) sum[x] = 0;
            for (int m = 0; m < M; ++m) {
                const Plane<T> probe = desk.probe[m], wave = desk.waves[m].plane();
                const T *pre = probe.re + y * probe.pitch, *pim = probe.im + y * probe.pitch;
                T *wre = wave.re + y * wave.pitch, *wim = wave.im + y * wave.pitch;
                PTY_SIMD
                for (int x = 0; x < w; ++x) {
                    wre[x] = pre[x] * ore[x] - pim[x] * oim[x];
                    wim[x] = pre[x] * oim[x] + pim[x] * ore[x];
                }
                if (memory.waves) {  // P O takes the place of ψ there until the change is known
                    T* kept = remembered(memory, k, m, y);
                    PTY_SIMD
                    for (int x = 0; x < w; ++x) {
                        const T re = wre[x], im = wim[x];
                        wre[x] = re + sigma * (re - kept[2 * x]);
                        wim[x] = im + sigma * (im - kept[2 * x + 1]);
                        kept[2 * x] = re;
                        kept[2 * x + 1] = im;
                    }
                }
                if (!find) continue;
                PTY_SIMD
                for (int x = 0; x < w; ++x) sum[x] += pre[x] * pre[x] + pim[x] * pim[x];
            }
            if (find)
                PTY_SIMD
                for (int x = 0; x < w; ++x) most_probe = std::max(most_probe, sum[x]);
        }
        desk.largest_object = most_object;
        if (find) desk.largest_probe = most_probe;
    }
    void remember(Desk& desk, int k, const PtyMemory& memory) {
        const T keep = memory.keep;
        for (int m = 0; m < M; ++m)
            for (int y = 0; y < h; ++y) {
                const Plane<T> wave = desk.waves[m].plane();
                T *re = wave.re + y * wave.pitch, *im = wave.im + y * wave.pitch, *kept = remembered(memory, k, m, y);
                PTY_SIMD
                for (int x = 0; x < w; ++x) {
                    re[x] *= keep;
                    im[x] *= keep;
                    kept[2 * x] += re[x];
                    kept[2 * x + 1] += im[x];
                }
            }
    }

    double visit(int k, bool refine, PtyRule object_rule, PtyRule probe_rule, const PtyMemory& memory) {
        Desk& desk = *desks_[0];
        desk.largest_probe = shifting() ? unknown : largest_probe_;
        const double error = look(desk, k, memory);
        largest_probe_ = desk.largest_probe;
        update(desk, k, refine, object_rule, probe_rule, patch(k), held_);
        if (refine && !shifting()) largest_probe_ = largest_power(desk);
        return error;
    }

    double together(const int64_t* index, int64_t count, bool mean, bool refine, PtyRule object_rule,
                    PtyRule probe_rule, const PtyMemory& memory) {
        const int threads = crew_.size();
        while (static_cast<int>(moves_.size()) < threads) {
            moves_.emplace_back(H, W);
            turns_.push_back(fields<T>(M, h, w));
        }
        std::vector<double> errors(threads, 0.0);
        int first = H, end = 0;  // rows of the canvas that these patterns touch
        for (int64_t i = 0; i < count; ++i) {
            first = std::min<int>(first, scene_.p.corners[2 * index[i]]);
            end = std::max<int>(end, scene_.p.corners[2 * index[i]] + h);
        }
        crew_.run([&](int t) {
            clear_rows(moves_[t], first, end);
            for (auto& turn : turns_[t]) turn.clear();
            for (int64_t i = count * t / threads; i < count * (t + 1) / threads; ++i) {
                Desk& desk = *desks_[t];
                desk.largest_probe = unknown;
                errors[t] += look(desk, index[i], memory);
                update(desk, index[i], refine, object_rule, probe_rule, scene_.window(moves_[t], index[i]), turns_[t]);
            }
        });
        if (mean) share(index, count, first, end);
        const T part = mean ? T(1) / count : T(1);
        crew_.run([&](int t) {
            for (int y = first + (end - first) * t / threads; y < first + (end - first) * (t + 1) / threads; ++y)
                for (int s = 0; s < threads; ++s) add_moves(moves_[s].plane(), y, mean ? shares_.data() + static_cast<std::size_t>(y) * W : nullptr);
            if (!refine) return;
            for (int m = 0; m < M; ++m)
                for (int s = 0; s < threads; ++s)
                    for (int y = h * t / threads; y < h * (t + 1) / threads; ++y)
                        add_row(turns_[s][m].plane(), held_[m].plane(), y, w, part);
        });
        double error = 0;
        for (double e : errors) error += e;
        return error;
    }

    // Adds the object's step of a pattern to `moves`, which may be the patch itself, and the probe's to `turn`.
    void update(Desk& desk, int k, bool refine, PtyRule object_rule, PtyRule probe_rule, Plane<T> moves,
                std::vector<Field<T>>& turn) {
        const Weight<T> object_weight(object_rule, desk.largest_probe + T(scene_.p.tiny_power));
        const Weight<T> probe_weight(probe_rule, desk.largest_object + T(scene_.p.tiny_power));
        const Plane<T> o = patch(k);
        T *power = desk.row(0), *weight = desk.row(1), *pull_re = desk.row(2), *pull_im = desk.row(3);
        for (int y = 0; y < h; ++y) {
            const T *ore = o.re + y * o.pitch, *oim = o.im + y * o.pitch;
            T *mre = moves.re + y * moves.pitch, *mim = moves.im + y * moves.pitch;
            PTY_SIMD
            for (int x = 0; x < w; ++x) {
                power[x] = ore[x] * ore[x] + oim[x] * oim[x];
                pull_re[x] = pull_im[x] = 0;
            }
            if (refine) probe_weight.apply(power, weight, w);
            PTY_SIMD
            for (int x = 0; x < w; ++x) power[x] = 0;
            for (int m = 0; m < M; ++m) {
                const Plane<T> pr = desk.probe[m], change = desk.waves[m].plane();
                const T *pre = pr.re + y * pr.pitch, *pim = pr.im + y * pr.pitch;
                T *dre = change.re + y * change.pitch, *dim = change.im + y * change.pitch;
                PTY_SIMD
                for (int x = 0; x < w; ++x) {
                    power[x] += pre[x] * pre[x] + pim[x] * pim[x];
                    pull_re[x] += pre[x] * dre[x] + pim[x] * dim[x];
                    pull_im[x] += pre[x] * dim[x] - pim[x] * dre[x];
                }
                if (!refine) continue;
                if (shifting()) {
                    PTY_SIMD
                    for (int x = 0; x < w; ++x) {
                        const T a = dre[x], b = dim[x];
                        dre[x] = weight[x] * (ore[x] * a + oim[x] * b);
                        dim[x] = weight[x] * (ore[x] * b - oim[x] * a);
                    }
                } else {
                    const Plane<T> to = turn[m].plane();
                    T *tre = to.re + y * to.pitch, *tim = to.im + y * to.pitch;
                    PTY_SIMD
                    for (int x = 0; x < w; ++x) {
                        tre[x] += weight[x] * (ore[x] * dre[x] + oim[x] * dim[x]);
                        tim[x] += weight[x] * (ore[x] * dim[x] - oim[x] * dre[x]);
                    }
                }
            }
            object_weight.apply(power, weight, w);
            PTY_SIMD
            for (int x = 0; x < w; ++x) {
                mre[x] += weight[x] * pull_re[x];
                mim[x] += weight[x] * pull_im[x];
            }
        }
        if (refine && shifting()) desk.shift_back(turn);
    }

    T largest_power(Desk& desk) const {
        T largest = 0, *power = desk.row(0);
        for (int y = 0; y < h; ++y) {
            PTY_SIMD
            for (int x = 0; x < w; ++x) power[x] = 0;
            for (int m = 0; m < M; ++m) {
                const T *re = desk.probe[m].re + y * desk.probe[m].pitch, *im = desk.probe[m].im + y * desk.probe[m].pitch;
                PTY_SIMD
                for (int x = 0; x < w; ++x) power[x] += re[x] * re[x] + im[x] * im[x];
            }
            PTY_SIMD
            for (int x = 0; x < w; ++x) largest = std::max(largest, power[x]);
        }
        return largest;
    }

    void add_moves(Plane<T> moves, int y, const T* share) {
        if (!share) return add_row(moves, object_.plane(), y, W, T(1));
        const Plane<T> o = object_.plane();
        T *ore = o.re + y * o.pitch, *oim = o.im + y * o.pitch;
        const T *re = moves.re + y * moves.pitch, *im = moves.im + y * moves.pitch;
        PTY_SIMD
        for (int x = 0; x < W; ++x) {
            ore[x] += share[x] * re[x];
            oim[x] += share[x] * im[x];
        }
    }
    // One by the number of these windows that cover a pixel, 1 where none does.
    void share(const int64_t* index, int64_t count, int first, int end) {
        shares_.resize(static_cast<std::size_t>(H) * W);
        T *begin = shares_.data() + static_cast<std::size_t>(first) * W, *stop = shares_.data() + static_cast<std::size_t>(end) * W;
        std::fill(begin, stop, T(0));
        for (int64_t i = 0; i < count; ++i) {
            T* row = shares_.data() + scene_.p.corners[2 * index[i]] * W + scene_.p.corners[2 * index[i] + 1];
            for (int y = 0; y < h; ++y, row += W)
                PTY_SIMD
                for (int x = 0; x < w; ++x) row[x] += 1;
        }
        for (T* at = begin; at < stop; ++at) *at = T(1) / std::max(*at, T(1));
    }

    static constexpr T unknown = -1;
    const Scene<T> scene_;
    const int M, h, w, H, W;
    Field<T> object_;
    std::vector<Field<T>> held_;  // the probe, or its spectra where positions have fractions
    T largest_probe_ = unknown;
    std::vector<std::unique_ptr<Desk>> desks_;
    std::vector<Field<T>> moves_;               // of each thread, on the object's canvas
    std::vector<std::vector<Field<T>>> turns_;  // of each thread, as the probe is held
    std::vector<T> shares_;
    Crew crew_;
};

}  // namespace pty
