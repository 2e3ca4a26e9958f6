// The visits of the PIE family: what ptybench/engines/sequential.py does in torch.

#pragma once

#include "bench.hpp"

extern "C" {

// γ / ((1-d) p + d r) with the power p of the other field and a reference r, which is its maximum (0), its mean (1) or
// one (2); times √(p / r) where it is trusted by brightness
struct PtyRule {
    double step, damping;
    int64_t trusted, against;
};

// Memory of exit waves: the constraint is applied to (1+σ) P O - σ ψ, the change scaled by `keep`, ψ ← P O + change.
struct PtyMemory {
    void* waves;  // (K, M, h, w) complex; or null
    double sigma, keep;
};

// What each pattern asks for, summed up over the visits of a call, or of it and those before it, as spectra where the probe is held as such; or nulls.
struct PtySums {
    void* object;        // (H, W) complex, Σ_km P* ψ'
    void* object_power;  // (H, W) complex, Σ_km |P|²
    void* probe;         // (M, h, w) complex, Σ_k |O|² P, never as spectra
    void* probe_pull;    // (M, h, w) complex, Σ_k O* Δψ, shifted back
    void* probe_power;   // (h, w) complex, Σ_k |O|²
    int64_t go_on;       // whether the sums go on from the call before
};
}

namespace pty {

template <class T>
struct Weight {
    Weight(PtyRule rule, T reference)
        : step(rule.step),
          part(1 - rule.damping),
          floor(T(rule.damping) * reference),
          scale(1 / reference),
          trusted(rule.trusted) {}
    void apply(const T* power, T* weight, int count) const {
        const T step = this->step, part = this->part, floor = this->floor, scale = this->scale;
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

// The reference of a rule, found row by row.
template <class T>
struct Reference {
    explicit Reference(int64_t against) : against(against) {}
    void take(const T* power, int count) {
        if (against == 0) {
            T most = largest;
            PTY_SIMD
            for (int x = 0; x < count; ++x) most = std::max(most, power[x]);
            largest = most;
        } else if (against == 1) {
            T row = 0;
            PTY_SIMD
            for (int x = 0; x < count; ++x) row += power[x];
            sum += row;
            pixels += count;
        }
    }
    T value() const { return against == 0 ? largest : against == 1 ? static_cast<T>(sum / pixels) : T(1); }
    int64_t against, pixels = 0;
    T largest = 0;
    double sum = 0;
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
                  PtyRule object_rule, PtyRule probe_rule, PtyMemory memory, PtySums sums) {
        FlushTiny flush;
        object_rule_ = object_rule, probe_rule_ = probe_rule, memory_ = memory, refine_ = refine;
        spread(object, object_.plane(), H, W);
        for (int m = 0; m < M; ++m) spread(probe + 2L * m * h * w, held_[m].plane(), h, w);
        reference_ = unknown;
        summing_ = sums.object != nullptr;
        if (summing_)
            for (std::size_t t = sums.go_on ? 1 : 0; t < desks_.size(); ++t) desks_[t]->sums.clear(scene_);
        double error = 0;
        if (batch == 1)
            for (int64_t i = 0; i < count; ++i) error += visit(order[i]);
        else
            for (int64_t i = 0; i < count; i += batch)
                error += together(order + i, std::min(batch, count - i), mean);
        gather(object_.plane(), object, H, W);
        if (refine)
            for (int m = 0; m < M; ++m) gather(held_[m].plane(), probe + 2L * m * h * w, h, w);
        if (summing_) hand_over(sums);
        return error;
    }

  private:
    // The fields of PtySums, of one thread.
    struct Sums {
        Field<T> object, object_power, probe_power;
        std::vector<Field<T>> probe, probe_pull;
        void clear(const Scene<T>& scene) {
            object = Field<T>(scene.H, scene.W);
            object_power = Field<T>(scene.H, scene.W);
            probe_power = Field<T>(scene.h, scene.w);
            probe = fields<T>(scene.M, scene.h, scene.w);
            probe_pull = fields<T>(scene.M, scene.h, scene.w);
        }
    };
    struct Desk : Bench<T> {
        explicit Desk(const Scene<T>& scene) : Bench<T>(scene), probe(scene.M) {}
        std::vector<Plane<T>> probe;  // of each mode, where this pattern sees it
        T object_reference = 0, probe_reference = 0;  // of the object's own power, of the probe's
        Sums sums;
        std::vector<Field<T>> pulls;  // of the probe without a weight, where they are summed up
    };
    bool shifting() const { return scene_.shifting(); }
    Plane<T> patch(int k) const { return scene_.window(object_, k); }

    // Looks at pattern k: exit waves, then their change by the modulus constraint, which is left in `waves`. Returns the
    // squared error. The reference of the probe's power is found where it is unknown.
    double look(Desk& desk, int k) {
        desk.turn_to(k);
        if (shifting()) desk.shift(held_, desk.shifted);
        for (int m = 0; m < M; ++m) desk.probe[m] = (shifting() ? desk.shifted : held_)[m].plane();
        exit_waves(desk, k);
        const double error = desk.constrain(Modulus<T>());
        if (memory_.waves) remember(desk, k);
        return error;
    }
    T* remembered(int k, int m, int y) const {
        return static_cast<T*>(memory_.waves) + 2 * (((static_cast<std::ptrdiff_t>(k) * M + m) * h + y) * w);
    }
    void exit_waves(Desk& desk, int k) {
        const Plane<T> o = patch(k);
        const bool find = desk.probe_reference == unknown;
        Reference<T> of_object(probe_rule_.against), of_probe(object_rule_.against);
        T *sum = desk.row(0), *power = desk.row(1);
        const T sigma = memory_.sigma;
        for (int y = 0; y < h; ++y) {
            std::fill_n(power, w, T(0));
            add_power(o.row(y), power, w);
            of_object.take(power, w);
            std::fill_n(sum, w, T(0));
            for (int m = 0; m < M; ++m) {
                const Row<T> wave = desk.waves[m].row(y);
                product(desk.probe[m].row(y), o.row(y), wave, w);
                if (memory_.waves) {  // P O takes the place of ψ there until the change is known
                    T* kept = remembered(k, m, y);
                    PTY_SIMD
                    for (int x = 0; x < w; ++x) {
                        const T re = wave.re[x], im = wave.im[x];
                        wave.re[x] = re + sigma * (re - kept[2 * x]);
                        wave.im[x] = im + sigma * (im - kept[2 * x + 1]);
                        kept[2 * x] = re;
                        kept[2 * x + 1] = im;
                    }
                }
                if (find) add_power(desk.probe[m].row(y), sum, w);
            }
            if (find) of_probe.take(sum, w);
        }
        desk.object_reference = of_object.value();
        if (find) desk.probe_reference = of_probe.value();
    }
    void remember(Desk& desk, int k) {
        for (int m = 0; m < M; ++m)
            for (int y = 0; y < h; ++y) {
                const Row<T> wave = desk.waves[m].row(y);
                scale_row(wave, T(memory_.keep), w);
                add_interleaved(wave, remembered(k, m, y), w);
            }
    }

    double visit(int k) {
        Desk& desk = *desks_[0];
        desk.probe_reference = shifting() ? unknown : reference_;
        const double error = look(desk, k);
        reference_ = desk.probe_reference;
        stand_still();
        update(desk, k, patch(k), held_);
        if (refine_ && !shifting()) reference_ = probe_reference(desk);
        return error;
    }

    double together(const int64_t* index, int64_t count, bool mean) {
        const int threads = crew_.size();
        while (static_cast<int>(moves_.size()) < threads) {
            moves_.emplace_back(H, W);
            turns_.push_back(fields<T>(M, h, w));
        }
        std::vector<double> errors(threads, 0.0);
        const std::vector<Segment> touched = scene_.touched(index, count);
        stand_still();
        crew_.run([&](int t) {
            for (const Segment& at : touched) clear_row(moves_[t].row(at.y, at.x), at.width);
            for (auto& turn : turns_[t]) turn.clear();
            for (int64_t i = count * t / threads; i < count * (t + 1) / threads; ++i) {
                Desk& desk = *desks_[t];
                desk.probe_reference = unknown;
                errors[t] += look(desk, index[i]);
                update(desk, index[i], scene_.window(moves_[t], index[i]), turns_[t]);
            }
        });
        if (mean) share(index, count, touched);
        const T part = mean ? T(1) / count : T(1);
        crew_.run([&](int t) {
            const std::size_t n = touched.size();
            for (std::size_t i = n * t / threads; i < n * (t + 1) / threads; ++i)
                for (int s = 0; s < threads; ++s) add_moves(moves_[s], touched[i], mean);
            if (!refine_) return;
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
    void update(Desk& desk, int k, Plane<T> moves, std::vector<Field<T>>& turn) {
        const Weight<T> object_weight(object_rule_, desk.probe_reference + T(scene_.p.tiny_power));
        const Weight<T> probe_weight(probe_rule_, desk.object_reference + T(scene_.p.tiny_power));
        if (summing_) sum_up(desk, k);
        const Plane<T> patch = this->patch(k);
        T *power = desk.row(0), *weight = desk.row(1), *pull_re = desk.row(2), *pull_im = desk.row(3);
        for (int y = 0; y < h; ++y) {
            const Row<T> o = patch.row(y), move = moves.row(y);
            PTY_SIMD
            for (int x = 0; x < w; ++x) {
                power[x] = o.re[x] * o.re[x] + o.im[x] * o.im[x];
                pull_re[x] = pull_im[x] = 0;
            }
            if (refine_) probe_weight.apply(power, weight, w);
            std::fill_n(power, w, T(0));
            for (int m = 0; m < M; ++m) {
                const Row<T> p = desk.probe[m].row(y), d = desk.waves[m].row(y);
                PTY_SIMD
                for (int x = 0; x < w; ++x) {
                    power[x] += p.re[x] * p.re[x] + p.im[x] * p.im[x];
                    pull_re[x] += p.re[x] * d.re[x] + p.im[x] * d.im[x];
                    pull_im[x] += p.re[x] * d.im[x] - p.im[x] * d.re[x];
                }
                if (!refine_) continue;
                const Row<T> to = shifting() ? d : turn[m].row(y);
                const T stay = shifting() ? 0 : 1;
                PTY_SIMD
                for (int x = 0; x < w; ++x) {
                    const T a = d.re[x], b = d.im[x];
                    to.re[x] = stay * to.re[x] + weight[x] * (o.re[x] * a + o.im[x] * b);
                    to.im[x] = stay * to.im[x] + weight[x] * (o.re[x] * b - o.im[x] * a);
                }
            }
            object_weight.apply(power, weight, w);
            PTY_SIMD
            for (int x = 0; x < w; ++x) {
                move.re[x] += weight[x] * pull_re[x];
                move.im[x] += weight[x] * pull_im[x];
            }
        }
        if (refine_ && shifting()) desk.shift_back(turn);
    }

    // The probe that is averaged is that of no fraction.
    void stand_still() {
        if (!summing_ || !refine_ || !shifting()) return;
        if (still_.empty()) still_ = fields<T>(M, h, w);
        desks_[0]->unshifted(held_, still_);
    }

    // Adds what a pattern asks for to the sums, before object and probe have changed.
    void sum_up(Desk& desk, int k) {
        Sums& sums = desk.sums;
        const Plane<T> patch = this->patch(k), object = scene_.window(sums.object, k), light = scene_.window(sums.object_power, k);
        for (int m = 0; m < M; ++m)
            for (int y = 0; y < h; ++y) {
                const Row<T> p = desk.probe[m].row(y), d = desk.waves[m].row(y), o = patch.row(y), to = object.row(y);
                T* total = light.row(y).re;
                PTY_SIMD
                for (int x = 0; x < w; ++x) {
                    const T power = p.re[x] * p.re[x] + p.im[x] * p.im[x];
                    to.re[x] += power * o.re[x] + p.re[x] * d.re[x] + p.im[x] * d.im[x];
                    to.im[x] += power * o.im[x] + p.re[x] * d.im[x] - p.im[x] * d.re[x];
                    total[x] += power;
                }
            }
        if (!refine_) return;
        if (shifting() && desk.pulls.empty()) desk.pulls = fields<T>(M, h, w);
        for (int m = 0; m < M; ++m)
            for (int y = 0; y < h; ++y) {
                const Row<T> still = (shifting() ? still_ : held_)[m].row(y), o = patch.row(y), to = sums.probe[m].row(y);
                T *total = sums.probe_power.row(y).re, *power = desk.row(0);
                std::fill_n(power, w, T(0));
                add_power(o, power, w);
                const T once = m == 0 ? 1 : 0;
                PTY_SIMD
                for (int x = 0; x < w; ++x) {
                    to.re[x] += power[x] * still.re[x];
                    to.im[x] += power[x] * still.im[x];
                    total[x] += once * power[x];
                }
                pull(o, desk.waves[m].row(y), (shifting() ? desk.pulls : sums.probe_pull)[m].row(y), w, !shifting());
            }
        if (shifting()) {
            std::swap(desk.pulls, desk.waves);
            desk.shift_back(sums.probe_pull);
            std::swap(desk.pulls, desk.waves);
        }
    }
    void hand_over(const PtySums& to) {
        const std::ptrdiff_t pixels = 2 * static_cast<std::ptrdiff_t>(h) * w;
        Sums& all = desks_[0]->sums;
        for (std::size_t t = 1; t < desks_.size(); ++t) {
            Sums& own = desks_[t]->sums;
            for (int y = 0; y < H; ++y) {
                add_row(own.object.plane(), all.object.plane(), y, W, T(1));
                add_row(own.object_power.plane(), all.object_power.plane(), y, W, T(1));
            }
            for (int y = 0; y < h; ++y) {
                add_row(own.probe_power.plane(), all.probe_power.plane(), y, w, T(1));
                for (int m = 0; m < M; ++m) {
                    add_row(own.probe[m].plane(), all.probe[m].plane(), y, w, T(1));
                    add_row(own.probe_pull[m].plane(), all.probe_pull[m].plane(), y, w, T(1));
                }
            }
        }
        gather(all.object.plane(), static_cast<T*>(to.object), H, W);
        gather(all.object_power.plane(), static_cast<T*>(to.object_power), H, W);
        gather(all.probe_power.plane(), static_cast<T*>(to.probe_power), h, w);
        for (int m = 0; m < M; ++m) {
            gather(all.probe[m].plane(), static_cast<T*>(to.probe) + pixels * m, h, w);
            gather(all.probe_pull[m].plane(), static_cast<T*>(to.probe_pull) + pixels * m, h, w);
        }
    }

    T probe_reference(Desk& desk) const {
        Reference<T> found(object_rule_.against);
        T* power = desk.row(0);
        for (int y = 0; y < h; ++y) {
            std::fill_n(power, w, T(0));
            for (int m = 0; m < M; ++m) add_power(desk.probe[m].row(y), power, w);
            found.take(power, w);
        }
        return found.value();
    }

    T* shared(const Segment& at) { return shares_.data() + static_cast<std::size_t>(at.y) * W + at.x; }
    void add_moves(const Field<T>& moves, const Segment& at, bool mean) {
        const Row<T> o = object_.row(at.y, at.x), move = moves.row(at.y, at.x);
        if (!mean) return add_row(move, o, at.width, T(1));
        const T* share = shared(at);
        PTY_SIMD
        for (int x = 0; x < at.width; ++x) {
            o.re[x] += share[x] * move.re[x];
            o.im[x] += share[x] * move.im[x];
        }
    }
    // One by the number of these windows that cover a pixel.
    void share(const int64_t* index, int64_t count, const std::vector<Segment>& touched) {
        shares_.resize(static_cast<std::size_t>(H) * W);
        for (const Segment& at : touched) std::fill_n(shared(at), at.width, T(0));
        for (int64_t i = 0; i < count; ++i) {
            T* row = shares_.data() + scene_.p.corners[2 * index[i]] * W + scene_.p.corners[2 * index[i] + 1];
            for (int y = 0; y < h; ++y, row += W)
                PTY_SIMD
                for (int x = 0; x < w; ++x) row[x] += 1;
        }
        for (const Segment& at : touched) {
            T* row = shared(at);
            PTY_SIMD
            for (int x = 0; x < at.width; ++x) row[x] = T(1) / row[x];
        }
    }

    static constexpr T unknown = -1;
    const Scene<T> scene_;
    const int M, h, w, H, W;
    Field<T> object_;
    std::vector<Field<T>> held_;   // the probe, or its spectra where positions have fractions
    std::vector<Field<T>> still_;  // the probe of these spectra
    PtyRule object_rule_{}, probe_rule_{};
    PtyMemory memory_{};
    bool refine_ = false, summing_ = false;
    T reference_ = unknown;  // of the probe's power, where no fraction changes it
    std::vector<std::unique_ptr<Desk>> desks_;
    std::vector<Field<T>> moves_;               // of each thread, on the object's canvas
    std::vector<std::vector<Field<T>>> turns_;  // of each thread, as the probe is held
    std::vector<T> shares_;
    Crew crew_;
};

}  // namespace pty
