// The compiled kernels, as plain C functions for ctypes.
//
// They do what the torch engines do, which are the reference and the fallback. Complex tensors come and go interleaved;
// in here the real and imaginary parts lie apart, where arithmetic needs no shuffling.

#include "chains.hpp"
#include "gradients.hpp"
#include "leastsquares.hpp"
#include "projections.hpp"
#include "visits.hpp"

namespace pty {

template <class Kernel>
void* made(const PtyProblem* problem, int threads) {
    try {
        return new Kernel(*problem, threads);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

}  // namespace pty

extern "C" {

// Transforms a field of its own there and back, so often: what an epoch cannot be faster than.
void pty_transforms_f32(int64_t rows, int64_t columns, int64_t count) {
    pty::Fft2<float> fft(static_cast<int>(rows), static_cast<int>(columns));
    pty::Field<float> from(static_cast<int>(rows), static_cast<int>(columns)), to(static_cast<int>(rows), static_cast<int>(columns));
    for (int64_t i = 0; i < count; ++i) {
        fft.forward(from.plane(), to.plane());
        fft.backward(to.plane(), from.plane());
    }
}

int pty_able(int64_t n) { return pty::Plan<float>::able(static_cast<int>(n)); }

void* pty_make_chain(const PtyConvolution* layers, int64_t count) {
    try {
        return new pty::Chain(layers, count);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}
void pty_free_chain(void* chain) { delete static_cast<pty::Chain*>(chain); }
int pty_chain(void* chain, const float* image, float* found, int64_t h, int64_t w, int64_t threads) {
    try {
        static_cast<pty::Chain*>(chain)->apply(image, found, static_cast<int>(h), static_cast<int>(w), static_cast<int>(threads));
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

#define PTY_EXPORT(suffix, T)                                                                                          \
    void* pty_make_visits_##suffix(const PtyProblem* problem, int64_t threads) {                                       \
        return pty::made<pty::Visits<T>>(problem, threads);                                                            \
    }                                                                                                                  \
    void pty_free_visits_##suffix(void* visits) { delete static_cast<pty::Visits<T>*>(visits); }                       \
    double pty_visits_##suffix(void* visits, const int64_t* order, int64_t count, int64_t batch, int64_t mean,         \
                               int64_t refine, void* object, void* probe, PtyRule object_rule, PtyRule probe_rule,     \
                               PtyMemory memory, PtySums sums) {                                                       \
        return static_cast<pty::Visits<T>*>(visits)->visits(order, count, batch, mean != 0, refine != 0,               \
                                                            static_cast<T*>(object), static_cast<T*>(probe),           \
                                                            object_rule, probe_rule, memory, sums);                    \
    }

#define PTY_EXPORT_PROJECTIONS(suffix, T)                                                                              \
    void* pty_make_projections_##suffix(const PtyProblem* problem, int64_t threads) {                                  \
        return pty::made<pty::Projections<T>>(problem, threads);                                                       \
    }                                                                                                                  \
    void pty_free_projections_##suffix(void* it) { delete static_cast<pty::Projections<T>*>(it); }                     \
    double pty_advance_##suffix(void* it, const PtyProjection* q, const void* object, const void* mirrored,            \
                                const void* probe, void* pull, void* weight) {                                         \
        return static_cast<pty::Projections<T>*>(it)->advance(                                                         \
            *q, static_cast<const T*>(object), static_cast<const T*>(mirrored), static_cast<const T*>(probe),          \
            static_cast<T*>(pull), static_cast<T*>(weight));                                                           \
    }                                                                                                                  \
    void pty_average_##suffix(void* it, const PtyProjection* q, const void* object, const void* probe,                 \
                              const void* change, void* pull, void* light) {                                           \
        static_cast<pty::Projections<T>*>(it)->average(*q, static_cast<const T*>(object),                              \
                                                       static_cast<const T*>(probe), static_cast<const T*>(change),    \
                                                       static_cast<T*>(pull), static_cast<T*>(light));                 \
    }

#define PTY_EXPORT_LEASTSQUARES(suffix, T)                                                                             \
    void* pty_make_leastsquares_##suffix(const PtyProblem* problem, int64_t threads) {                                 \
        return pty::made<pty::LeastSquares<T>>(problem, threads);                                                      \
    }                                                                                                                  \
    void pty_free_leastsquares_##suffix(void* it) { delete static_cast<pty::LeastSquares<T>*>(it); }                   \
    double pty_batches_##suffix(void* it, const int64_t* order, int64_t count, int64_t batch, int64_t refine,          \
                                void* object, void* probe, const void* weight, PtyLeastSquares how) {                  \
        return static_cast<pty::LeastSquares<T>*>(it)->visits(order, count, batch, refine != 0,                        \
                                                              static_cast<T*>(object), static_cast<T*>(probe),         \
                                                              static_cast<const T*>(weight), how);                     \
    }

#define PTY_EXPORT_GRADIENTS(suffix, T)                                                                                \
    void* pty_make_gradients_##suffix(const PtyProblem* problem, int64_t threads) {                                    \
        return pty::made<pty::Gradients<T>>(problem, threads);                                                         \
    }                                                                                                                  \
    void pty_free_gradients_##suffix(void* it) { delete static_cast<pty::Gradients<T>*>(it); }                         \
    int pty_batch_##suffix(void* it, const int64_t* index, int64_t count, const PtyGradient* q) {                      \
        try {                                                                                                          \
            static_cast<pty::Gradients<T>*>(it)->batch(index, count, *q);                                              \
            return 0;                                                                                                  \
        } catch (const std::bad_alloc&) {                                                                              \
            return 1;                                                                                                  \
        }                                                                                                              \
    }                                                                                                                  \
    void pty_adam_##suffix(int64_t modes, int64_t count, void* values, const void* gradient, void* first,              \
                           void* second, const void* bend, const double* how) {                                        \
        pty::adam<T>(modes, count, static_cast<T*>(values), static_cast<const T*>(gradient), static_cast<T*>(first),   \
                     static_cast<T*>(second), static_cast<const T*>(bend), static_cast<T>(how[0]), static_cast<T>(how[1]), static_cast<T>(how[2]),  \
                     static_cast<T>(how[3]), static_cast<T>(how[4]), static_cast<T>(how[5]));                          \
    }                                                                                                                  \
    double pty_variation_##suffix(int64_t rows, int64_t columns, const void* object, void* gradient, double p,         \
                                  double q, double epsilon) {                                                          \
        return pty::variation<T>(rows, columns, static_cast<const T*>(object), static_cast<T*>(gradient), p, q,        \
                                 static_cast<T>(epsilon));                                                             \
    }

PTY_EXPORT(f32, float)
PTY_EXPORT(f64, double)
PTY_EXPORT_PROJECTIONS(f32, float)
PTY_EXPORT_PROJECTIONS(f64, double)
PTY_EXPORT_LEASTSQUARES(f32, float)
PTY_EXPORT_LEASTSQUARES(f64, double)
PTY_EXPORT_GRADIENTS(f32, float)
PTY_EXPORT_GRADIENTS(f64, double)
}
