// The batches of LSQ-ML: what baselines/lsqml.py does in torch.

#pragma once

#include "bench.hpp"

extern "C" {

struct PtyLeastSquares {
    double object_scale, probe_scale;  // shares of the steps that are taken
    double damping, trimmed;           // of the systems; share of the object's steps that their mean leaves out at either end
    double floor;                      // photons, bounds the slope of a dark pixel
    int64_t poisson, trials;           // Newton's steps for a pattern's most likely change
};
}

namespace pty {

// The most likely change along the gradient of the Poisson likelihood.
template <class T>
struct Likeliest {
    static constexpr bool whole = true;
    T floor;
    int trials;
    // `plane` holds intensities and takes the factors, `slopes` is room to work in
    double apply(Plane<T> plane, Plane<T> slopes, const T* measured, const T* good, int rows, int columns) const {
        double error = 0;
        const T floor = this->floor;
        for (int y = 0; y < rows; ++y) {
            const T *a = measured + y * columns, *expected = plane.re + y * plane.pitch;
            T* slope = slopes.re + y * slopes.pitch;
            T squared = 0;
            PTY_SIMD
            for (int x = 0; x < columns; ++x) {
                const T trust = good ? good[y * columns + x] : T(1), gap = std::sqrt(expected[x]) - a[x];
                squared += trust * gap * gap;
                slope[x] = trust * (expected[x] - a[x] * a[x]) / (expected[x] + floor);
            }
            error += squared;
        }
        T step = T(0.5);
        for (int trial = 0; trial < trials; ++trial) {
            double pull = 0, bend = 0;
            for (int y = 0; y < rows; ++y) {
                const T *a = measured + y * columns, *expected = plane.re + y * plane.pitch;
                const T* slope = slopes.re + y * slopes.pitch;
                T pulls = 0, bends = 0;
                PTY_SIMD
                for (int x = 0; x < columns; ++x) {
                    const T left = 1 - step * slope[x], data = a[x] * a[x] / left;
                    pulls += slope[x] * (data - expected[x] * left);
                    bends += slope[x] * slope[x] * (expected[x] + data / left);
                }
                pull += pulls;
                bend += bends;
            }
            step = static_cast<T>(std::min(std::max(step - pull / std::max(bend, 1e-30), 0.0), 0.99));
        }
        for (int y = 0; y < rows; ++y) {
            T* factor = plane.re + y * plane.pitch;
            const T* slope = slopes.re + y * slopes.pitch;
            PTY_SIMD
            for (int x = 0; x < columns; ++x) factor[x] = -step * slope[x];
        }
        return error;
    }
};

template <class T>
class LeastSquares {
  public:
    LeastSquares(const PtyProblem& p, int threads)
        : scene_(p), M(p.modes), h(p.h), w(p.w), H(p.H), W(p.W), object_(H, W), held_(fields<T>(M, h, w)),
          turn_(fields<T>(M, h, w)), crew_(threads) {
        for (int i = 0; i < threads; ++i) desks_.push_back(std::make_unique<Desk>(scene_));
    }

    double visits(const int64_t* order, int64_t count, int64_t batch, bool refine, T* object, T* probe, const T* weight,
                  const PtyLeastSquares& how) {
        FlushTiny flush;
        spread(object, object_.plane(), H, W);
        for (int m = 0; m < M; ++m) spread(probe + pixels() * m, held_[m].plane(), h, w);
        while (static_cast<std::int64_t>(changes_.size()) < std::min(batch, count)) {
            changes_.push_back(fields<T>(M, h, w));
            probes_.push_back(scene_.shifting() ? fields<T>(M, h, w) : std::vector<Field<T>>());
        }
        double error = 0;
        for (int64_t i = 0; i < count; i += batch) error += together(order + i, std::min(batch, count - i), refine, weight, how);
        gather(object_.plane(), object, H, W);
        if (refine)
            for (int m = 0; m < M; ++m) gather(held_[m].plane(), probe + pixels() * m, h, w);
        return error;
    }

  private:
    struct Desk : Bench<T> {
        explicit Desk(const Scene<T>& scene)
            : Bench<T>(scene),
              turn(fields<T>(scene.M, scene.h, scene.w)),
              moves(scene.H, scene.W) {}
        std::vector<Field<T>> turn;
        Field<T> moves;
    };
    // Inner products of the two moves of an exit wave with themselves, each other, and the change.
    struct Products {
        double oo = 0, op = 0, pp = 0, oc = 0, pc = 0;
    };
    std::ptrdiff_t pixels() const { return 2 * static_cast<std::ptrdiff_t>(h) * w; }
    std::vector<Field<T>>& probe(int64_t i) { return scene_.shifting() ? probes_[i] : held_; }

    double together(const int64_t* index, int64_t count, bool refine, const T* weight, const PtyLeastSquares& how) {
        const int threads = crew_.size();
        std::vector<double> errors(threads, 0.0);
        const std::vector<Segment> touched = scene_.touched(index, count);
        const std::size_t n = touched.size();
        crew_.run([&](int t) {
            Desk& desk = *desks_[t];
            for (const Segment& at : touched) clear_row(desk.moves.row(at.y, at.x), at.width);
            for (auto& field : desk.turn) field.clear();
            for (int64_t i = count * t / threads; i < count * (t + 1) / threads; ++i)
                errors[t] += look(desk, i, static_cast<int>(index[i]), refine, how);
        });
        crew_.run([&](int t) {
            for (std::size_t i = n * t / threads; i < n * (t + 1) / threads; ++i) {
                const Segment at = touched[i];
                const Row<T> move = desks_[0]->moves.row(at.y, at.x);
                for (int s = 1; s < threads; ++s) add_row(desks_[s]->moves.row(at.y, at.x), move, at.width, T(1));
                const T* scale = weight + static_cast<std::ptrdiff_t>(at.y) * W + at.x;
                PTY_SIMD
                for (int x = 0; x < at.width; ++x) move.re[x] *= scale[x], move.im[x] *= scale[x];
            }
            if (!refine) return;
            for (int m = 0; m < M; ++m)
                for (int y = h * t / threads; y < h * (t + 1) / threads; ++y) {
                    clear_row(turn_[m].row(y), w);
                    for (int s = 0; s < threads; ++s) add_row(desks_[s]->turn[m].row(y), turn_[m].row(y), w, T(1));
                }
        });
        products_.assign(count, Products());
        crew_.run([&](int t) {
            for (int64_t i = count * t / threads; i < count * (t + 1) / threads; ++i)
                products_[i] = multiply(*desks_[t], i, static_cast<int>(index[i]), refine);
        });
        T object_step, probe_step;
        solve(refine, how, object_step, probe_step);
        crew_.run([&](int t) {
            for (std::size_t i = n * t / threads; i < n * (t + 1) / threads; ++i) {
                const Segment at = touched[i];
                add_row(desks_[0]->moves.row(at.y, at.x), object_.row(at.y, at.x), at.width, object_step);
            }
            if (!refine) return;
            for (int m = 0; m < M; ++m)
                for (int y = h * t / threads; y < h * (t + 1) / threads; ++y)
                    add_row(turn_[m].plane(), held_[m].plane(), y, w, probe_step);
        });
        double error = 0;
        for (double e : errors) error += e;
        return error;
    }

    // How the exit waves of a pattern should change, into changes_[i]; what that asks of object and probe, added up.
    double look(Desk& desk, int64_t i, int k, bool refine, const PtyLeastSquares& how) {
        desk.turn_to(k);
        if (scene_.shifting()) desk.shift(held_, probes_[i]);
        const Plane<T> o = scene_.window(object_, k), moves = scene_.window(desk.moves, k);
        for (int m = 0; m < M; ++m)
            for (int y = 0; y < h; ++y) product(probe(i)[m].row(y), o.row(y), desk.waves[m].row(y), w);
        const double error = how.poisson ? desk.constrain(Likeliest<T>{T(how.floor), static_cast<int>(how.trials)})
                                         : desk.constrain(Modulus<T>());
        std::swap(desk.waves, changes_[i]);
        const bool alone = scene_.shifting();
        for (int m = 0; m < M; ++m)
            for (int y = 0; y < h; ++y) {
                const Row<T> change = changes_[i][m].row(y);
                pull(probe(i)[m].row(y), change, moves.row(y), w, true);
                if (refine) pull(o.row(y), change, (alone ? desk.waves : desk.turn)[m].row(y), w, !alone);
            }
        if (refine && scene_.shifting()) desk.shift_back(desk.turn);
        return error;
    }

    Products multiply(Desk& desk, int64_t i, int k, bool refine) {
        if (refine && scene_.shifting()) {
            desk.turn_to(k);
            desk.shift(turn_, desk.shifted);
        }
        const Plane<T> o = scene_.window(object_, k), moves = scene_.window(desks_[0]->moves, k);
        Products found;
        for (int m = 0; m < M; ++m)
            for (int y = 0; y < h; ++y) {
                const Row<T> p = probe(i)[m].row(y), q = o.row(y), change = changes_[i][m].row(y), move = moves.row(y);
                const Row<T> turn = (scene_.shifting() ? desk.shifted : turn_)[m].row(y);
                T oo = 0, op = 0, pp = 0, oc = 0, pc = 0;
                if (refine) {
                    PTY_SIMD
                    for (int x = 0; x < w; ++x) {
                        const T a = move.re[x] * p.re[x] - move.im[x] * p.im[x], b = move.re[x] * p.im[x] + move.im[x] * p.re[x];
                        const T c = turn.re[x] * q.re[x] - turn.im[x] * q.im[x], d = turn.re[x] * q.im[x] + turn.im[x] * q.re[x];
                        oo += a * a + b * b;
                        op += a * c + b * d;
                        pp += c * c + d * d;
                        oc += a * change.re[x] + b * change.im[x];
                        pc += c * change.re[x] + d * change.im[x];
                    }
                } else {
                    PTY_SIMD
                    for (int x = 0; x < w; ++x) {
                        const T a = move.re[x] * p.re[x] - move.im[x] * p.im[x], b = move.re[x] * p.im[x] + move.im[x] * p.re[x];
                        oo += a * a + b * b;
                        oc += a * change.re[x] + b * change.im[x];
                    }
                }
                found.oo += oo, found.op += op, found.pp += pp, found.oc += oc, found.pc += pc;
            }
        return found;
    }

    // The systems of all patterns, their diagonals damped by the mean over the batch; no step goes backwards.
    void solve(bool refine, const PtyLeastSquares& how, T& object_step, T& probe_step) {
        double oo = 0, pp = 0;
        const double count = static_cast<double>(products_.size());
        for (const Products& a : products_) oo += a.oo / count, pp += a.pp / count;
        std::vector<T> steps;
        double probe_sum = 0;
        for (const Products& a : products_) {
            const double o = a.oo + how.damping * oo + 1e-30, p = a.pp + how.damping * pp + 1e-30;
            double of_object = a.oc / o, of_probe = 0;
            if (refine) {
                const double determinant = o * p - a.op * a.op;
                of_object = (a.oc * p - a.pc * a.op) / determinant;
                of_probe = (a.pc * o - a.oc * a.op) / determinant;
            }
            steps.push_back(static_cast<T>(std::max(of_object, 0.0)));
            probe_sum += static_cast<T>(std::max(of_probe, 0.0));
        }
        std::sort(steps.begin(), steps.end());
        const std::size_t out = static_cast<std::size_t>(how.trimmed * count);
        double sum = 0;
        for (std::size_t i = out; i < steps.size() - out; ++i) sum += steps[i];
        object_step = static_cast<T>(how.object_scale * sum / (count - 2.0 * out));
        probe_step = static_cast<T>(how.probe_scale * probe_sum / count);
    }

    const Scene<T> scene_;
    const int M, h, w, H, W;
    Field<T> object_;
    std::vector<Field<T>> held_, turn_;                     // the probe and its direction, or their spectra
    std::vector<std::vector<Field<T>>> changes_, probes_;  // of the patterns of a batch
    std::vector<Products> products_;
    std::vector<std::unique_ptr<Desk>> desks_;
    Crew crew_;
};

}  // namespace pty
