// Two-dimensional complex FFTs of planar data (real and imaginary parts apart), several columns in one SIMD vector.
//
// A transform is two passes. Each takes a strip of columns into the first-level cache, transforms them there together
// (Stockham's autosort algorithm, so every butterfly is plain vector arithmetic) and writes them as rows.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#if defined(__AVX__)
#include <immintrin.h>
#endif

#define PTY_INLINE inline __attribute__((always_inline))

namespace pty {

template <class T>
struct Simd;
template <>
struct Simd<float> {
    typedef float vec __attribute__((vector_size(32)));
};
template <>
struct Simd<double> {
    typedef double vec __attribute__((vector_size(32)));
};
template <class T>
using Vec = typename Simd<T>::vec;
template <class T>
constexpr int lanes = 32 / sizeof(T);

template <class T>
PTY_INLINE Vec<T> load(const T* from) {
    Vec<T> value;
    std::memcpy(&value, from, sizeof value);
    return value;
}
template <class T>
PTY_INLINE void store(T* to, Vec<T> value) {
    std::memcpy(to, &value, sizeof value);
}

// The pairs (re, im) of the first half of two vectors, and of the second.
PTY_INLINE Vec<float> low_pairs(Vec<float> re, Vec<float> im) { return __builtin_shufflevector(re, im, 0, 8, 1, 9, 2, 10, 3, 11); }
PTY_INLINE Vec<float> high_pairs(Vec<float> re, Vec<float> im) { return __builtin_shufflevector(re, im, 4, 12, 5, 13, 6, 14, 7, 15); }
PTY_INLINE Vec<double> low_pairs(Vec<double> re, Vec<double> im) { return __builtin_shufflevector(re, im, 0, 4, 1, 5); }
PTY_INLINE Vec<double> high_pairs(Vec<double> re, Vec<double> im) { return __builtin_shufflevector(re, im, 2, 6, 3, 7); }
#if defined(__AVX__)
PTY_INLINE void stream(float* to, Vec<float> value) { _mm256_stream_ps(to, reinterpret_cast<__m256>(value)); }
PTY_INLINE void stream(double* to, Vec<double> value) { _mm256_stream_pd(to, reinterpret_cast<__m256d>(value)); }
#endif

// Memory on a cache line of its own.
template <class T>
class Block {
  public:
    Block() = default;
    explicit Block(std::size_t count) { resize(count); }
    Block(Block&& other) noexcept : data_(std::exchange(other.data_, nullptr)) {}
    Block& operator=(Block&& other) noexcept {
        std::swap(data_, other.data_);
        return *this;
    }
    ~Block() { std::free(data_); }
    void resize(std::size_t count) {
        std::free(data_);
        const std::size_t bytes = (count * sizeof(T) + 127) / 64 * 64;
        data_ = static_cast<T*>(std::aligned_alloc(64, bytes));
        if (!data_) throw std::bad_alloc();
        std::memset(data_, 0, bytes);
    }
    T* get() const { return data_; }

  private:
    T* data_ = nullptr;
};

template <class T>
struct Row {
    T *re, *im;
};

// A complex array with its parts apart. Rows are padded, or the rows of a power of two would share a few cache sets.
template <class T>
struct Plane {
    T* re = nullptr;
    T* im = nullptr;
    std::ptrdiff_t pitch = 0;
    Row<T> row(int y, int x = 0) const { return {re + y * pitch + x, im + y * pitch + x}; }
    Plane window(int y, int x) const { return {re + y * pitch + x, im + y * pitch + x, pitch}; }
    Plane swapped() const { return {im, re, pitch}; }
};

template <class T>
class Field {
  public:
    Field() = default;
    Field(int rows, int columns) : pitch_(pad(columns)), size_(pitch_ * rows), block_(2 * size_ + 32) {}
    Plane<T> plane() const { return {block_.get(), block_.get() + size_ + 16, pitch_}; }
    Row<T> row(int y, int x = 0) const { return plane().row(y, x); }
    std::size_t size() const { return size_; }
    void clear() { std::memset(block_.get(), 0, (2 * size_ + 16) * sizeof(T)); }

  private:
    static std::ptrdiff_t pad(std::ptrdiff_t columns) {
        const std::ptrdiff_t lines = (columns * sizeof(T) + 63) / 64;
        return (lines | 1) * 64 / sizeof(T);
    }
    std::ptrdiff_t pitch_ = 0;
    std::size_t size_ = 0;
    Block<T> block_;
};

template <class T>
struct Stage {
    int radix;
    int m;                // length of what is left, divided by the radix
    int s;                // sequences side by side
    std::vector<T> turns;  // of p < m: cos and sin of -2πpu/(radix m) for u = 1 … radix-1
    std::vector<T> roots;  // of the radix itself where it has no butterfly of its own
};

template <class T>
class Plan {
  public:
    static constexpr int largest_prime = 13;
    Plan() = default;
    explicit Plan(int n) : n(n) {
        int left = n, s = 1;
        while (left > 1) {
            const int r = radix_of(left), m = left / r;
            Stage<T> stage{r, m, s, {}, {}};
            for (int p = 0; p < m; ++p)
                for (int u = 1; u < r; ++u) push(stage.turns, static_cast<long>(p) * u, left);
            if (r != 2 && r != 4)
                for (int u = 0; u < r; ++u) push(stage.roots, u, r);
            stages.push_back(std::move(stage));
            left = m;
            s *= r;
        }
    }
    // whether all prime factors are small; 0 has none
    static bool able(int n) {
        for (int p = 2; p <= largest_prime; ++p)
            while (n > 1 && n % p == 0) n /= p;
        return n == 1;
    }
    int n = 0;
    std::vector<Stage<T>> stages;

  private:
    static int radix_of(int n) {
        if (n % 4 == 0) return 4;
        for (int p = 2; p <= largest_prime; ++p)
            if (n % p == 0) return p;
        return n;
    }
    static void push(std::vector<T>& to, long k, int n) {
        const double angle = -2 * M_PI * static_cast<double>(k % n) / n;
        to.push_back(static_cast<T>(std::cos(angle)));
        to.push_back(static_cast<T>(std::sin(angle)));
    }
};

template <class T>
struct Cell {
    Vec<T> re, im;
};
template <class T>
PTY_INLINE Cell<T> operator+(Cell<T> a, Cell<T> b) {
    return {a.re + b.re, a.im + b.im};
}
template <class T>
PTY_INLINE Cell<T> operator-(Cell<T> a, Cell<T> b) {
    return {a.re - b.re, a.im - b.im};
}
template <class T>
PTY_INLINE Cell<T> turned(Cell<T> a, const T* w) {  // a times a number
    return {a.re * w[0] - a.im * w[1], a.re * w[1] + a.im * w[0]};
}
template <class T>
PTY_INLINE Cell<T> times_minus_i(Cell<T> a) {
    return {a.im, -a.re};
}

template <class T, bool last>
PTY_INLINE void stage4(const Stage<T>& st, const Cell<T>* x, Cell<T>* y) {
    const int m = st.m, s = st.s;
    for (int p = 0; p < m; ++p) {
        const T* w = st.turns.data() + 6 * p;
        const Cell<T>* in = x + s * p;
        Cell<T>* out = y + 4 * s * p;
        for (int q = 0; q < s; ++q) {
            const Cell<T> a = in[q], b = in[q + s * m], c = in[q + 2 * s * m], d = in[q + 3 * s * m];
            const Cell<T> ac = a + c, ca = a - c, bd = b + d, db = times_minus_i<T>(b - d);
            out[q] = ac + bd;
            out[q + s] = last ? ca + db : turned<T>(ca + db, w);
            out[q + 2 * s] = last ? ac - bd : turned<T>(ac - bd, w + 2);
            out[q + 3 * s] = last ? ca - db : turned<T>(ca - db, w + 4);
        }
    }
}

template <class T>
PTY_INLINE void stage2(const Stage<T>& st, const Cell<T>* x, Cell<T>* y) {
    const int m = st.m, s = st.s;
    for (int p = 0; p < m; ++p) {
        const T* w = st.turns.data() + 2 * p;
        for (int q = 0; q < s; ++q) {
            const Cell<T> a = x[q + s * p], b = x[q + s * (p + m)];
            y[q + 2 * s * p] = a + b;
            y[q + 2 * s * p + s] = turned<T>(a - b, w);
        }
    }
}

template <class T>
void stage_of_prime(const Stage<T>& st, const Cell<T>* x, Cell<T>* y) {
    const int r = st.radix, m = st.m, s = st.s;
    for (int p = 0; p < m; ++p)
        for (int q = 0; q < s; ++q)
            for (int u = 0; u < r; ++u) {
                Cell<T> sum = x[q + s * p];
                for (int t = 1; t < r; ++t) sum = sum + turned<T>(x[q + s * (p + m * t)], &st.roots[2 * (t * u % r)]);
                y[q + s * (r * p + u)] = u ? turned<T>(sum, st.turns.data() + 2 * ((r - 1) * p + u - 1)) : sum;
            }
}

// Transforms n cells; returns where the result is, x or y.
template <class T>
PTY_INLINE Cell<T>* transform(const Plan<T>& plan, Cell<T>* x, Cell<T>* y) {
    for (const Stage<T>& st : plan.stages) {
        if (st.radix == 4) {
            if (st.m == 1)
                stage4<T, true>(st, x, y);
            else
                stage4<T, false>(st, x, y);
        } else if (st.radix == 2) {
            stage2<T>(st, x, y);
        } else {
            stage_of_prime<T>(st, x, y);
        }
        std::swap(x, y);
    }
    return x;
}

PTY_INLINE void transpose(Vec<float> (&r)[8]) {
    typedef Vec<float> V;
    V t[8], u[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        t[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; ++j) {
            u[i + 2 * j] = __builtin_shufflevector(t[i + j], t[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            u[i + 2 * j + 1] = __builtin_shufflevector(t[i + j], t[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int i = 0; i < 4; ++i) {
        r[i] = __builtin_shufflevector(u[i], u[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        r[i + 4] = __builtin_shufflevector(u[i], u[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}
PTY_INLINE void transpose(Vec<double> (&r)[4]) {
    typedef Vec<double> V;
    const V a = __builtin_shufflevector(r[0], r[1], 0, 4, 2, 6), b = __builtin_shufflevector(r[0], r[1], 1, 5, 3, 7);
    const V c = __builtin_shufflevector(r[2], r[3], 0, 4, 2, 6), d = __builtin_shufflevector(r[2], r[3], 1, 5, 3, 7);
    r[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
    r[1] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
    r[2] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
    r[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
}

// Transforms along the rows of `from` (n × columns) and writes the transposed result (columns × n).
template <class T>
void pass(const Plan<T>& plan, Plane<T> from, int columns, Plane<T> to, Cell<T>* x, Cell<T>* y) {
    constexpr int V = lanes<T>;
    const int n = plan.n;
    for (int c = 0; c < columns; c += V) {
        const int width = std::min(V, columns - c);
        // rows are padded beyond the last column, so that whole vectors can be read; what is there is not used
        for (int k = 0; k < n; ++k) x[k] = {load(from.re + k * from.pitch + c), load(from.im + k * from.pitch + c)};
        const Cell<T>* done = transform(plan, x, y);
        int k = 0;
        for (; k + V <= n; k += V) {
            Vec<T> re[V], im[V];
            for (int i = 0; i < V; ++i) re[i] = done[k + i].re, im[i] = done[k + i].im;
            transpose(re);
            transpose(im);
            if (width == V)
                for (int j = 0; j < V; ++j) {
                    store(to.re + (c + j) * to.pitch + k, re[j]);
                    store(to.im + (c + j) * to.pitch + k, im[j]);
                }
            else
                for (int j = 0; j < width; ++j) {
                    store(to.re + (c + j) * to.pitch + k, re[j]);
                    store(to.im + (c + j) * to.pitch + k, im[j]);
                }
        }
        for (; k < n; ++k)
            for (int j = 0; j < width; ++j) {
                to.re[(c + j) * to.pitch + k] = done[k].re[j];
                to.im[(c + j) * to.pitch + k] = done[k].im[j];
            }
    }
}

// Unscaled two-dimensional transforms of one shape; its workspace makes it the property of one thread.
template <class T>
class Fft2 {
  public:
    Fft2(int rows, int columns)
        : down_(rows), across_(columns), turned_(columns, rows), x_(2 * lanes<T> * std::max(rows, columns)), y_(2 * lanes<T> * std::max(rows, columns)) {}
    void forward(Plane<T> from, Plane<T> to) {
        Cell<T>*x = reinterpret_cast<Cell<T>*>(x_.get()), *y = reinterpret_cast<Cell<T>*>(y_.get());
        pass(down_, from, across_.n, turned_.plane(), x, y);
        pass(across_, turned_.plane(), down_.n, to, x, y);
    }
    void backward(Plane<T> from, Plane<T> to) { forward(from.swapped(), to.swapped()); }

  private:
    Plan<T> down_, across_;
    Field<T> turned_;
    Block<T> x_, y_;
};

}  // namespace pty
