// A chain of convolutions with a ReLU between any two, and the image less what it finds: what networks/dncnn.py does in
// torch. Channels lie side by side, eight to a vector; sums of a few pixels and channels stay in registers until whole.
//
// Kernels of 3 x 3 between many channels are applied to tiles of 4 x 4 pixels by Winograd's minimal filtering, with a
// quarter of the multiplications (Lavin & Gray 2016, 10.1109/CVPR.2016.435, F(4 x 4, 3 x 3)); all others directly.

#pragma once

#include "bench.hpp"

#define PTY_UNROLL _Pragma("GCC unroll 8")

extern "C" {

struct PtyConvolution {
    int64_t inputs, outputs, side;
    const float *weight, *bias;  // (outputs, inputs, side, side); (outputs,) or null
};
}

namespace pty {

using Eight = Vec<float>;
constexpr int EIGHT = lanes<float>;
constexpr int AT_MOST = 3;             // vectors of output channels in registers
constexpr int TILE = 4, SEEN = 6;      // pixels of a side that a tile gives, and that it sees
constexpr int WAVES = SEEN * SEEN;     // what becomes of a tile
constexpr int BLOCK = 4, TILES = 16;   // tiles in registers, and in the caches
constexpr int STRIP = TILE * BLOCK;    // pixels: what is computed of a row is a multiple of it
constexpr int FROM_INPUTS = 4;         // channels from which tiles pay

PTY_INLINE Eight splat(float value) { return Eight{} + value; }

// The transforms of Winograd's tiles along one axis: of what a tile sees, and of what it gives.
template <class T>
PTY_INLINE void seen_waves(const T* d, int from, T* to, int step) {
    const T a = d[0], b = d[from], c = d[2 * from], e = d[3 * from], f = d[4 * from], g = d[5 * from];
    const T even = f - 4 * c, odd = e - 4 * b, half = f - c, twice = 2 * (e - b);
    to[0] = 4 * a - 5 * c + f;
    to[step] = even + odd;
    to[2 * step] = even - odd;
    to[3 * step] = half + twice;
    to[4 * step] = half - twice;
    to[5 * step] = 4 * b - 5 * e + g;
}
template <class T>
PTY_INLINE void given_pixels(const T* m, int from, T* to, int step) {
    const T a = m[from] + m[2 * from], b = m[from] - m[2 * from], c = m[3 * from] + m[4 * from], e = m[3 * from] - m[4 * from];
    to[0] = m[0] + a + c;
    to[step] = b + 2 * e;
    to[2 * step] = a + 4 * c;
    to[3 * step] = b + 8 * e + m[5 * from];
}
inline void kernel_waves(const double* k, int from, double* to, int step) {
    const double even = k[0] / 24 + k[2 * from] / 6, odd = k[from] / 12;
    to[0] = k[0] / 4;
    to[step] = -(k[0] + k[from] + k[2 * from]) / 6;
    to[2 * step] = -(k[0] - k[from] + k[2 * from]) / 6;
    to[3 * step] = even + odd;
    to[4 * step] = even - odd;
    to[5 * step] = k[2 * from];
}

// An image of many channels with zeros around it.
class Sheet {
  public:
    void fit(int h, int w, int border, int pitch) {
        const int tall = (h + TILE - 1) / TILE * TILE, wide = (w + STRIP - 1) / STRIP * STRIP;
        if (tall == tall_ && wide == wide_ && border == border_ && pitch == pitch_) return;
        tall_ = tall, wide_ = wide, border_ = border, pitch_ = pitch;
        data_.resize(static_cast<std::size_t>(tall + 2 * border) * (wide + 2 * border) * pitch);
    }
    float* at(int y, int x) {
        return data_.get() + ((static_cast<std::ptrdiff_t>(y) + border_) * (wide_ + 2 * border_) + x + border_) * pitch_;
    }
    int pitch() const { return pitch_; }
    int tall() const { return tall_; }
    int wide() const { return wide_; }

  private:
    Block<float> data_;  // zeros
    int tall_ = 0, wide_ = 0, border_ = 0, pitch_ = 0;
};

// One convolution. Its kernels are kept as they are read: group of outputs, tap or wave, input, output.
class Convolution {
  public:
    explicit Convolution(const PtyConvolution& c)
        : inputs(c.inputs), vectors((c.outputs + EIGHT - 1) / EIGHT), tiled(c.side == 3 && c.inputs >= FROM_INPUTS),
          side_(c.side), terms_(tiled ? WAVES : c.side * c.side) {
        weight_.resize(static_cast<std::size_t>(terms_) * inputs * vectors * EIGHT);
        bias_.resize(static_cast<std::size_t>(vectors) * EIGHT);
        std::copy_n(c.bias, c.bias ? c.outputs : 0, bias_.get());
        const int taps = c.side * c.side;
        std::vector<double> kernel(std::max(taps, WAVES)), half(3 * SEEN);
        for (int o = 0; o < c.outputs; ++o)
            for (int i = 0; i < inputs; ++i) {
                std::copy_n(c.weight + (static_cast<std::ptrdiff_t>(o) * inputs + i) * taps, taps, kernel.begin());
                if (tiled) {
                    for (int x = 0; x < 3; ++x) kernel_waves(&kernel[x], 3, &half[x], 3);
                    for (int y = 0; y < SEEN; ++y) kernel_waves(&half[3 * y], 1, &kernel[SEEN * y], 1);
                }
                const int first = o / (AT_MOST * EIGHT) * AT_MOST, wide = width(first) * EIGHT;
                for (int t = 0; t < terms_; ++t)
                    group(first)[(t * inputs + i) * wide + o - first * EIGHT] = static_cast<float>(kernel[t]);
            }
    }

    std::size_t room() const { return tiled ? static_cast<std::size_t>(WAVES) * TILES * (inputs + EIGHT + vectors * EIGHT) : 0; }

    // Four rows of the result from row y on; `room` numbers to work with. What lies beyond an image of (h, w) is zero.
    void rows(Sheet& from, Sheet& to, int y, int h, int w, bool rectify, float* work) {
        if (tiled)
            for (int x = 0; x < to.wide(); x += TILE * TILES) tiles(from, to, y, x, rectify, work);
        for (int row = y; row < y + TILE; ++row) {
            for (int first = 0; first < vectors && !tiled; first += AT_MOST) {
                if (width(first) == 3)
                    strips<3, 4>(from, to, first, row, rectify);
                else if (width(first) == 2)
                    strips<2, 4>(from, to, first, row, rectify);
                else
                    strips<1, 8>(from, to, first, row, rectify);
            }
            for (int x = row < h ? w : 0; x < to.wide(); ++x) std::fill_n(to.at(row, x), vectors * EIGHT, 0.0f);
        }
    }

    const int inputs, vectors;
    const bool tiled;

  private:
    int width(int first) const { return std::min(AT_MOST, vectors - first); }
    float* group(int first) { return weight_.get() + static_cast<std::ptrdiff_t>(first) * EIGHT * terms_ * inputs; }

    // `to` += Σ_i seen[p, i] weight[i, …] for P pixels and V vectors of outputs
    template <int V, int P>
    PTY_INLINE static void gather(Eight (&sum)[P][V], const float* seen, std::ptrdiff_t pitch, const float* weight, int inputs) {
        for (int i = 0; i < inputs; ++i, weight += V * EIGHT) {
            Eight w[V];
            PTY_UNROLL
            for (int v = 0; v < V; ++v) w[v] = load(weight + v * EIGHT);
            PTY_UNROLL
            for (int p = 0; p < P; ++p) {
                const Eight value = splat(seen[p * pitch + i]);
                PTY_UNROLL
                for (int v = 0; v < V; ++v) sum[p][v] += value * w[v];
            }
        }
    }

    template <int V, int P>
    void strips(Sheet& from, Sheet& to, int first, int y, bool rectify) {
        const int radius = side_ / 2;
        const Eight least = splat(rectify ? 0.0f : -3.4e38f);
        for (int x = 0; x < to.wide(); x += P) {
            Eight sum[P][V];
            PTY_UNROLL
            for (int v = 0; v < V; ++v) {
                const Eight bias = load(bias_.get() + (first + v) * EIGHT);
                PTY_UNROLL
                for (int p = 0; p < P; ++p) sum[p][v] = bias;
            }
            const float* weight = group(first);
            for (int ty = 0; ty < side_; ++ty)
                for (int tx = 0; tx < side_; ++tx, weight += inputs * V * EIGHT)
                    gather<V, P>(sum, from.at(y + ty - radius, x + tx - radius), from.pitch(), weight, inputs);
            PTY_UNROLL
            for (int p = 0; p < P; ++p) {
                float* there = to.at(y, x + p) + first * EIGHT;
                PTY_UNROLL
                for (int v = 0; v < V; ++v) store(there + v * EIGHT, sum[p][v] > least ? sum[p][v] : least);
            }
        }
    }

    // A row of tiles from pixel x on: waves (WAVES, tiles, inputs), their products, and back.
    void tiles(Sheet& from, Sheet& to, int y, int x, bool rectify, float* work) {
        const int count = std::min(TILES, (to.wide() - x) / TILE), outputs = vectors * EIGHT;
        const int in = (inputs + EIGHT - 1) / EIGHT * EIGHT;
        float *waves = work, *products = work + static_cast<std::ptrdiff_t>(WAVES) * TILES * in;
        const Eight least = splat(rectify ? 0.0f : -3.4e38f);
        Eight d[WAVES], half[WAVES];
        for (int t = 0; t < count; ++t)
            for (int i = 0; i < in; i += EIGHT) {
                for (int a = 0; a < SEEN; ++a)
                    for (int b = 0; b < SEEN; ++b) d[a * SEEN + b] = load(from.at(y + a - 1, x + t * TILE + b - 1) + i);
                for (int b = 0; b < SEEN; ++b) seen_waves(d + b, SEEN, half + b, SEEN);
                for (int a = 0; a < SEEN; ++a) seen_waves(half + a * SEEN, 1, d + a * SEEN, 1);
                for (int k = 0; k < WAVES; ++k) store(waves + (static_cast<std::ptrdiff_t>(k) * TILES + t) * in + i, d[k]);
            }
        for (int first = 0; first < vectors; first += AT_MOST)
            for (int k = 0; k < WAVES; ++k) {
                const float* seen = waves + static_cast<std::ptrdiff_t>(k) * TILES * in;
                float* found = products + static_cast<std::ptrdiff_t>(k) * TILES * outputs + first * EIGHT;
                if (width(first) == 3)
                    multiply<3>(seen, found, first, k, count, in, outputs);
                else if (width(first) == 2)
                    multiply<2>(seen, found, first, k, count, in, outputs);
                else
                    multiply<1>(seen, found, first, k, count, in, outputs);
            }
        for (int t = 0; t < count; ++t)
            for (int o = 0; o < outputs; o += EIGHT) {
                const Eight bias = load(bias_.get() + o);
                for (int k = 0; k < WAVES; ++k) d[k] = load(products + (static_cast<std::ptrdiff_t>(k) * TILES + t) * outputs + o);
                for (int b = 0; b < SEEN; ++b) given_pixels(d + b, SEEN, half + b, SEEN);
                for (int a = 0; a < TILE; ++a) {
                    given_pixels(half + a * SEEN, 1, d, 1);
                    for (int b = 0; b < TILE; ++b) {
                        const Eight value = d[b] + bias;
                        store(to.at(y + a, x + t * TILE + b) + o, value > least ? value : least);
                    }
                }
            }
    }
    template <int V>
    void multiply(const float* seen, float* found, int first, int k, int count, int in, int outputs) {
        const float* weight = group(first) + static_cast<std::ptrdiff_t>(k) * inputs * V * EIGHT;
        for (int t = 0; t < count; t += BLOCK) {
            Eight sum[BLOCK][V] = {};
            gather<V, BLOCK>(sum, seen + static_cast<std::ptrdiff_t>(t) * in, in, weight, inputs);
            PTY_UNROLL
            for (int p = 0; p < BLOCK; ++p)
                PTY_UNROLL
                for (int v = 0; v < V; ++v) store(found + static_cast<std::ptrdiff_t>(t + p) * outputs + v * EIGHT, sum[p][v]);
        }
    }

    const int side_, terms_;
    Block<float> weight_, bias_;
};

class Chain {
  public:
    Chain(const PtyConvolution* layers, int64_t count) {
        for (int64_t k = 0; k < count; ++k) {
            layers_.emplace_back(layers[k]);
            border_ = std::max(border_, static_cast<int>(layers[k].side / 2));
            pitch_ = std::max(pitch_, layers_.back().vectors * EIGHT);
            room_ = std::max(room_, layers_.back().room());
        }
    }

    // found = image - R(image), both (h, w).
    void apply(const float* image, float* found, int h, int w, int threads) {
        FlushTiny flush;
        Sheet *from = &first_, *to = &sheets_[0], *next = &sheets_[1];
        first_.fit(h, w, border_, 1);
        for (Sheet& sheet : sheets_) sheet.fit(h, w, border_, pitch_);
        for (int y = 0; y < first_.tall(); ++y)
            for (int x = 0; x < first_.wide(); ++x)
                *first_.at(y, x) = y < h && x < w ? image[static_cast<std::ptrdiff_t>(y) * w + x] : 0.0f;
        const int strips = first_.tall() / TILE;
        Crew crew(std::max(1, std::min(threads, strips)));
        const int parts = crew.size();
        work_.resize(room_ * parts);
        for (std::size_t k = 0; k < layers_.size(); ++k) {
            crew.run([&](int i) {
                for (int strip = strips * i / parts; strip < strips * (i + 1) / parts; ++strip)
                    layers_[k].rows(*from, *to, strip * TILE, h, w, k + 1 < layers_.size(), work_.get() + room_ * i);
            });
            from = to;
            std::swap(to, next);
        }
        for (int y = 0; y < h; ++y)
            for (int x = 0; x < w; ++x) {
                const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(y) * w + x;
                found[at] = image[at] - *from->at(y, x);
            }
    }

  private:
    std::vector<Convolution> layers_;
    Sheet first_, sheets_[2];
    Block<float> work_;
    std::size_t room_ = 0;
    int border_ = 0, pitch_ = EIGHT;
};

}  // namespace pty
