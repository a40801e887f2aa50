// The selective scan and the causal convolution before it on a CPU, forward and backward, float32, channels last. C ABI, no
// dependency but OpenMP.
//
// LANES channels go side by side in one vector; a tile of T states of such a block stays in registers while the walk goes through
// a chunk of positions. Step size bias, softplus, skip and gate are fused. The backward recomputes states chunk by chunk from
// checkpoints that the forward left. Sums over channels and rows are trees whose shape depends on sizes alone, whoever computes
// their branches: the result does not depend on the number of threads.
//
// Legend: B batch, L tokens, D channels, N states, G groups of B and C (a group serves D / G channels), T states of a tile.

#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

namespace {

// As many states side by side as registers hold: a tile's states, and beside them the constants of the exponential.
#if defined(__AVX512F__)
constexpr int LANES = 16, WIDE = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8, WIDE = 8;
#else
constexpr int LANES = 4, WIDE = 8;
#endif
constexpr int HALF = 8;              // states of a tile of the backward, which needs twice the registers
constexpr int CHUNK = 64;            // positions between checkpoints
constexpr int BATCH_TASKS = 16;      // at most this many tasks share the batch
constexpr int MAX_STATES = 256;

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int32_t ivec __attribute__((vector_size(LANES * 4)));

inline vec splat(float x) { return x - vec{}; }

// 2^r on [-1/2, 1/2] to 1.1e-7 by a polynomial that is exact to first order at 0, where decays of long memories lie.
inline vec exp2_fraction(vec r) {
    vec y = splat(1.330026423e-3f);
    y = y * r + 9.669708494e-3f;
    y = y * r + 5.550559995e-2f;
    y = y * r + 2.402228161e-1f;
    y = y * r + 6.931471806e-1f;
    return y * r + 1.0f;
}

// 2^x. Adding 1.5 * 2^23 rounds x to a whole number and leaves it in the low bits, from where a shift takes it to the exponent.
// Below -125 it stays at 2^-125, above 126 at 2^126; NaN stays NaN.
inline vec exp2v(vec x) {
    constexpr float MAGIC = 12582912.0f;
    x = x < -125.0f ? splat(-125.0f) : x;
    x = x > 126.0f ? splat(126.0f) : x;
    const vec shifted = x + MAGIC;
    return (vec)((ivec)exp2_fraction(x - (shifted - MAGIC)) + ((ivec)shifted << 23));
}

// 2^x for x <= -0: of two negative floats the smaller is the larger integer, which makes the clamp one integer minimum.
inline vec exp2_negative(vec x) {
    const ivec lowest = (ivec)splat(-125.0f), bits = (ivec)x;
    x = (vec)(bits < lowest ? bits : lowest);
#if defined(__AVX512F__) && !defined(__clang__)  // which has no shuffle by a variable
    // Rounded to 1/32, whose 32 powers lie in two registers: two multiplications less than by the polynomial alone. An entry lacks
    // what the shift of the whole number leaves below the exponent.
    constexpr float MAGIC = 12582912.0f / 32.0f;
    const ivec low = {1065353216, 1065274759, 1065200323, 1065129999, 1065063874, 1065002042, 1064944595, 1064891632,
                     1064843248, 1064799546, 1064760626, 1064726595, 1064697559, 1064673627, 1064654911, 1064641526};
    const ivec high = {1064633587, 1064631215, 1064634532, 1064643661, 1064658730, 1064679870, 1064707212, 1064740894,
                      1064781053, 1064827832, 1064881375, 1064941831, 1065009351, 1065084090, 1065166205, 1065255859};
    const vec shifted = x + MAGIC, r = x - (shifted - MAGIC);
    const vec y = (2.402265070e-1f * r + 6.931471806e-1f) * r + 1.0f;
    return y * (vec)(__builtin_shuffle(low, high, (ivec)shifted) + ((ivec)shifted << 18));
#else
    constexpr float MAGIC = 12582912.0f;
    const vec shifted = x + MAGIC;
    return (vec)((ivec)exp2_fraction(x - (shifted - MAGIC)) + ((ivec)shifted << 23));
#endif
}

// e^(dt A) with A already times log2(e); NEGATIVE promises dt >= 0 and A < 0.
template <bool NEGATIVE>
inline vec decay_of(vec dt, vec A) { return NEGATIVE ? exp2_negative(dt * A) : exp2v(dt * A); }

constexpr float LOG2E = 1.4426950408889634f;

// e^-|x|, for a number x.
inline vec exp_minus_magnitude(vec x) { return exp2_negative((vec)((ivec)x | INT32_MIN) * LOG2E); }

// 1 / (1 + e^-x) where t = e^-|x|.
inline vec sigmoid_of(vec x, vec t) { return (x >= 0.0f ? splat(1.0f) : t) / (1.0f + t); }

inline vec sigmoid(vec x) { return sigmoid_of(x, exp_minus_magnitude(x)); }

// log(1 + e^x) = max(x, 0) + log1p(t) where t = e^-|x|; log1p on [0, 1] to 3.3e-8 by a polynomial. NaN stays NaN.
inline vec softplus_of(vec x, vec t) {
    vec y = splat(5.364823086e-3f);
    y = y * t + -3.006578822e-2f;
    y = y * t + 7.920453043e-2f;
    y = y * t + -1.375380203e-1f;
    y = y * t + 1.915365486e-1f;
    y = y * t + -2.485716366e-1f;
    y = y * t + 3.332132262e-1f;
    y = y * t + -4.999964796e-1f;
    y = y * t + 1.0f;
    return (x < 0.0f ? vec{} : x) + y * t;
}

inline vec load(const float* p, int width) {
    vec x = {};
    if (width == LANES) std::memcpy(&x, p, sizeof x);
    else std::memcpy(&x, p, sizeof(float) * width);
    return x;
}

inline void store(float* p, vec x, int width) {
    if (width == LANES) std::memcpy(p, &x, sizeof x);
    else std::memcpy(p, &x, sizeof(float) * width);
}

// Lanes `step` apart are added: a's where bit `step` of the lane is 0, b's where it is 1.
template <int STEP, size_t... I>
inline vec fold(vec a, vec b, std::index_sequence<I...>) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, (int)(I & STEP ? LANES + I - STEP : I)...) +
           __builtin_shufflevector(a, b, (int)(I & STEP ? LANES + I : I + STEP)...);
#else
    return __builtin_shuffle(a, b, ivec{(int32_t)(I & STEP ? LANES + I - STEP : I)...}) +
           __builtin_shuffle(a, b, ivec{(int32_t)(I & STEP ? LANES + I : I + STEP)...});
#endif
}

// The sums over the lanes of LANES vectors, as one vector.
template <int STEP = LANES / 2>
inline vec lane_sums(const vec* v) {
    if constexpr (STEP == 0) return *v;
    else {
        // Vectors whose numbers differ in bit STEP meet last; that is the order in which their sums come to lie in the lanes.
        vec folded[STEP];
#pragma GCC unroll 16
        for (int i = 0; i < STEP; ++i) folded[i] = fold<STEP>(v[i], v[i + STEP], std::make_index_sequence<LANES>{});
        return lane_sums<STEP / 2>(folded);
    }
}

inline float sum(vec x) {
    float total = 0.0f;
    for (int i = 0; i < LANES; ++i) total += x[i];
    return total;
}

}  // namespace

// Strides are in floats; channels and states are contiguous. Pointers marked "or null" may be absent.
struct Scan {
    int64_t batch, length, channels, states, groups;
    const float *u, *delta;          // (B, L, D)
    const float* A;                  // (D, N)
    const float *Bm, *Cm;            // (B, L, G, N)
    const float *skip, *z, *bias;    // (D,), (B, L, D), (D,); or null
    const float* start;              // (B, D, N) state before the walk; or null
    const int32_t* tokens;           // (G, L) token at each position of each group's walk; or null: forward
    const uint8_t* keep;             // (B, G, L) 0 where the state is emptied before the position; or null
    int64_t u_batch, u_token, delta_batch, delta_token, B_batch, B_token, B_group, C_batch, C_token, C_group, z_batch, z_token;
    int32_t softplus, threads;
    float *y, *last;                 // (B, L, D), (B, D, N) or null
    float* checkpoints;              // the states before each chunk, see vivim_scan_chunk; null: not wanted
    // backward only
    const float *grad_y, *grad_last;                   // (B, L, D) contiguous, (B, D, N); grad_last or null
    float *grad_u, *grad_delta, *grad_z;               // (B, L, D); grad_z null without z
    float *grad_A, *grad_skip, *grad_bias, *grad_start;  // (D, N), (D,), (D,), (B, D, N); all but grad_A null if unwanted
    float *grad_B, *grad_C;                            // (B, L, G, N)
};

namespace {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// States rounded up to whole tiles: to 4 or 8 where that is enough, else to WIDE, of which HALF is a divisor.
inline int64_t padded_states(int64_t N) { return N <= 4 ? 4 : N <= 8 ? 8 : ceil_div(N, WIDE) * WIDE; }

// LANES channels, or what is left of a group.
struct Block {
    int64_t channel;
    int width;
    int64_t index;  // among all blocks of all groups
};

struct Task {
    int64_t first_row, end_row;  // rows of the batch
    int64_t row_task;            // which share of the rows
    int64_t group, part;         // which part of the group's blocks
    std::vector<Block> blocks;
};

struct Plan {
    std::vector<Task> tasks;
    int64_t parts, row_tasks;  // parts of a group, shares of the rows
};

inline int64_t blocks_of(int64_t groups, int64_t channels) { return groups * ceil_div(channels / groups, LANES); }

// Parts of 2^k blocks: a part is then a branch of the tree of sums. As large as spreads evenly over the threads: the more channels of a
// token are read together, the better memory streams.
Plan plan(int64_t batch, int64_t groups, int64_t channels, int threads) {
    const int64_t per_group = channels / groups, blocks = ceil_div(per_group, LANES);
    const int64_t rows = batch > BATCH_TASKS ? ceil_div(batch, BATCH_TASKS) : 1;
    Plan p{{}, 0, ceil_div(batch, rows)};
    // Blocks that the busiest thread gets.
    auto most = [&](int64_t size) { return ceil_div(p.row_tasks * groups * ceil_div(blocks, size), threads) * size; };
    int64_t size = 1;
    while (size < blocks) size *= 2;
    while (size > 1 && most(size) * 10 > most(1) * 11) size /= 2;
    p.parts = ceil_div(blocks, size);
    for (int64_t r = 0; r < p.row_tasks; ++r)
        for (int64_t g = 0; g < groups; ++g)
            for (int64_t k = 0; k < blocks; ++k) {
                if (k % size == 0) p.tasks.push_back({r * rows, (r + 1) * rows < batch ? (r + 1) * rows : batch, r, g, k / size, {}});
                const int64_t left = per_group - k * LANES;
                p.tasks.back().blocks.push_back({g * per_group + k * LANES, int(left < LANES ? left : LANES), g * blocks + k});
            }
    return p;
}

// Checkpoints are (B, chunks, blocks, padded N, LANES).
inline int64_t checkpoint_floats(const Scan& s) { return blocks_of(s.groups, s.channels) * padded_states(s.states) * LANES; }

inline float* checkpoint(const Scan& s, int64_t b, int64_t chunk, const Block& block) {
    return s.checkpoints + (b * ceil_div(s.length, CHUNK) + chunk) * checkpoint_floats(s) + block.index * padded_states(s.states) * LANES;
}

// (width, N) rows of a (.., D, N) array to vectors over the channels, and back.
inline void gather(const float* p, int64_t N, int width, std::vector<vec>& out, float scale = 1.0f) {
    for (vec& x : out) x = vec{};
    for (int lane = 0; lane < width; ++lane)
        for (int64_t n = 0; n < N; ++n) out[n][lane] = p[lane * N + n] * scale;
}

inline void scatter(float* p, int64_t N, int width, const std::vector<vec>& in) {
    for (int lane = 0; lane < width; ++lane)
        for (int64_t n = 0; n < N; ++n) p[lane * N + n] = in[n][lane];
}

// Are all decays of this block at most 1, so that the cheaper exponential serves?
inline bool decays(const Scan& s, const Block& block) {
    if (!s.softplus) return false;
    for (int64_t i = block.channel * s.states; i < (block.channel + block.width) * s.states; ++i)
        if (!(s.A[i] < 0.0f)) return false;
    return true;
}

// A chunk of one row and group: its tokens, its rows of B and C, and where states are emptied.
struct Chunk {
    int count;
    bool resets;                         // is there one?
    int32_t kept[CHUNK];                 // 0 where the state is emptied before the position, else all bits
    int64_t token[CHUNK];                // of its positions
    int64_t next_row, after[CHUNK];      // of the chunk to be read next
    const float *B[CHUNK], *C[CHUNK];
    std::vector<float> copies;  // rows of B and C padded with zeros, where N is no whole number of tiles

    explicit Chunk(const Scan& s) : copies(padded_states(s.states) == s.states ? 0 : 2 * CHUNK * padded_states(s.states)) {}

    void open(const Scan& s, int64_t b, int64_t group, int64_t first, int64_t next_b, int64_t next) {
        const int64_t N = s.states, padded = padded_states(N);
        const uint8_t* keep = s.keep ? s.keep + (b * s.groups + group) * s.length : nullptr;
        const int32_t* tokens = s.tokens ? s.tokens + group * s.length : nullptr;
        count = int(s.length - first < CHUNK ? s.length - first : CHUNK);
        resets = false;
        next_row = next_b;
        for (int k = 0; k < count; ++k) {
            const int64_t t = token[k] = tokens ? tokens[first + k] : first + k;
            const int64_t p = next + k < s.length ? next + k : s.length - 1;
            after[k] = tokens ? tokens[p] : p;
            kept[k] = keep && !keep[first + k] ? 0 : -1;
            resets |= !kept[k];
            B[k] = s.Bm + b * s.B_batch + t * s.B_token + group * s.B_group;
            C[k] = s.Cm + b * s.C_batch + t * s.C_token + group * s.C_group;
            if (padded == N) continue;
            float *copy_B = &copies[k * padded], *copy_C = &copies[(CHUNK + k) * padded];
            std::memcpy(copy_B, B[k], sizeof(float) * N), std::memcpy(copy_C, C[k], sizeof(float) * N);
            B[k] = copy_B, C[k] = copy_C;
        }
    }
};

inline vec masked(vec x, int32_t bits) { return (vec)((ivec)x & bits); }

// Arrays over the tokens whose rows the next chunk reads, or this one writes. Touched one position at a time amid the arithmetic: all
// at once, they would stand in line for memory while nothing is computed.
template <int READS, int WRITES>
struct Ahead {
    const float* read[READS];
    int64_t read_token[READS];
    float* write[WRITES];
    int64_t write_token;

    // Inlined early: a compiler may take a function that only prefetches for one that does nothing.
    __attribute__((always_inline)) void touch(const Chunk& c, int k) const {
#pragma GCC unroll 4
        for (int i = 0; i < READS; ++i) __builtin_prefetch(read[i] + c.after[k] * read_token[i]);
#pragma GCC unroll 4
        for (int i = 0; i < WRITES; ++i) __builtin_prefetch(write[i] + c.token[k] * write_token, 1);
    }
};

// What a block needs per position before its recurrence runs, computed first so that no long chain of dependent steps
// (softplus, sigmoid) stands between two states.
struct Steps {
    vec u[CHUNK], dt[CHUNK], dtu[CHUNK], y[CHUNK];
    vec slope[CHUNK];  // of dt over delta; backward only

    template <bool BACKWARD>
    void open(const Scan& s, const Chunk& c, int64_t b, int64_t channel, int width) {
        const vec bias = s.bias ? load(s.bias + channel, width) : vec{}, skip = s.skip ? load(s.skip + channel, width) : vec{};
        const float *u_at = s.u + b * s.u_batch + channel, *delta_at = s.delta + b * s.delta_batch + channel;
        for (int k = 0; k < c.count; ++k) {
            const vec x = load(u_at + c.token[k] * s.u_token, width);
            vec step = load(delta_at + c.token[k] * s.delta_token, width) + bias;
            if (s.softplus) {
                const vec t = exp_minus_magnitude(step);
                if (BACKWARD) slope[k] = sigmoid_of(step, t);
                step = softplus_of(step, t);
            }
            if (BACKWARD) u[k] = x;
            dt[k] = step, dtu[k] = step * x, y[k] = skip * x;
        }
    }
};

// One tile of T states through a chunk; adds <h, C> to y.
template <int T, bool NEGATIVE, bool RESETS>
void advance(const vec* A_of_tile, vec* state, Steps& w, const Chunk& c, const Ahead<3, 1>& ahead, int64_t n0) {
    vec A[T], h[T];
#pragma GCC unroll 16
    for (int n = 0; n < T; ++n) A[n] = A_of_tile[n], h[n] = state[n];
    for (int k = 0; k < c.count; ++k) {
        const float *B = c.B[k] + n0, *C = c.C[k] + n0;
        const vec dt = w.dt[k], dtu = w.dtu[k];
        vec y = w.y[k];
        if (n0 == 0) ahead.touch(c, k);
#pragma GCC unroll 16
        for (int n = 0; n < T; ++n) {
            if (RESETS) h[n] = masked(h[n], c.kept[k]);
            h[n] = decay_of<NEGATIVE>(dt, A[n]) * h[n] + dtu * B[n];
            y += h[n] * C[n];
        }
        w.y[k] = y;
    }
#pragma GCC unroll 16
    for (int n = 0; n < T; ++n) state[n] = h[n];
}

// A block with what stays with it from chunk to chunk.
struct ForwardBlock : Block {
    bool negative;
    std::vector<vec> A, h;  // (padded N); A is times log2(e)

    ForwardBlock(const Scan& s, const Block& block) : Block(block), negative(decays(s, block)), A(padded_states(s.states)), h(A.size()) {
        gather(s.A + channel * s.states, s.states, width, A, LOG2E);
    }
};

template <int T>
void forward_chunk(const Scan& s, const Chunk& c, Steps& w, ForwardBlock& block, int64_t b) {
    const int64_t channel = block.channel;
    const int width = block.width;
    const float *u = s.u + b * s.u_batch + channel, *delta = s.delta + b * s.delta_batch + channel;
    const float* z = s.z ? s.z + b * s.z_batch + channel : u;
    float* y = s.y + b * s.length * s.channels + channel;
    const int64_t rows = c.next_row - b;
    const Ahead<3, 1> ahead{{u + rows * s.u_batch, delta + rows * s.delta_batch, z + rows * (s.z ? s.z_batch : s.u_batch)},
                            {s.u_token, s.delta_token, s.z ? s.z_token : s.u_token},
                            {y},
                            s.channels};
    w.open<false>(s, c, b, channel, width);
    const auto tile = block.negative ? (c.resets ? advance<T, true, true> : advance<T, true, false>)
                                     : (c.resets ? advance<T, false, true> : advance<T, false, false>);
    for (int64_t n0 = 0; n0 < s.states; n0 += T) tile(&block.A[n0], &block.h[n0], w, c, ahead, n0);
    if (s.z)
        for (int k = 0; k < c.count; ++k) {
            const vec gate = load(z + c.token[k] * s.z_token, width);
            w.y[k] *= gate * sigmoid(gate);
        }
    for (int k = 0; k < c.count; ++k) store(y + c.token[k] * s.channels, w.y[k], width);
}

// The blocks of a task take turns chunk by chunk, so that memory is read nearly as it lies.
template <int T>
void forward_task(const Scan& s, const Task& task) {
    const int64_t N = s.states;
    std::vector<ForwardBlock> blocks;
    for (const Block& block : task.blocks) blocks.emplace_back(s, block);
    Chunk c(s);
    Steps w;
    for (int64_t b = task.first_row; b < task.end_row; ++b) {
        for (ForwardBlock& block : blocks) {
            if (s.start) gather(s.start + (b * s.channels + block.channel) * N, N, block.width, block.h);
            else for (vec& h : block.h) h = vec{};
        }
        for (int64_t first = 0; first < s.length; first += CHUNK) {
            const bool last = first + CHUNK >= s.length;
            c.open(s, b, task.group, first, last && b + 1 < task.end_row ? b + 1 : b, last ? 0 : first + CHUNK);
            for (ForwardBlock& block : blocks) {
                if (s.checkpoints) std::memcpy(checkpoint(s, b, first / CHUNK, block), block.h.data(), sizeof(vec) * block.h.size());
                forward_chunk<T>(s, c, w, block, b);
            }
        }
        if (s.last)
            for (ForwardBlock& block : blocks) scatter(s.last + (b * s.channels + block.channel) * N, N, block.width, block.h);
    }
}

// What a chunk of a block is computed in.
struct Work {
    Steps in;
    vec dy[CHUNK], dz[CHUNK], along[CHUNK], ddt[CHUNK];
    // Of one tile: the states before the chunk and after each of its positions, and the decays.
    vec h[CHUNK + 1][HALF], decay[CHUNK][HALF];
};

// A block in the backward: what stays with it from chunk to chunk, and what it adds up.
struct BackwardBlock : Block {
    bool negative;
    std::vector<vec> A, A2, q, dA;  // (padded N); A2 is A times log2(e), q the gradient of the state
    vec dskip, dbias;

    BackwardBlock(const Scan& s, const Block& block)
        : Block(block), negative(decays(s, block)), A(padded_states(s.states)), A2(A.size()), q(A.size()), dA(A.size()), dskip{}, dbias{} {
        gather(s.A + channel * s.states, s.states, width, A);
        gather(s.A + channel * s.states, s.states, width, A2, LOG2E);
    }
};

// ``advance`` from w.h[0] on, that keeps what the reverse sweep needs. Where a state is emptied its decay is 0.
template <int T, bool NEGATIVE, bool GATED, bool RESETS>
void recompute(const vec* A_of_tile, Work& w, const Chunk& c, const Ahead<4, 3>& ahead, const float* next_checkpoint, int64_t n0) {
    vec A[T], h[T];
#pragma GCC unroll 16
    for (int n = 0; n < T; ++n) A[n] = A_of_tile[n], h[n] = w.h[0][n];
    for (int k = 0; k < c.count; ++k) {
        const float *B = c.B[k] + n0, *C = c.C[k] + n0;
        const vec dt = w.in.dt[k], dtu = w.in.dtu[k];
        vec y = w.in.y[k];
        if (n0 == 0) ahead.touch(c, k), __builtin_prefetch(next_checkpoint + k * LANES);
#pragma GCC unroll 16
        for (int n = 0; n < T; ++n) {
            vec decay = decay_of<NEGATIVE>(dt, A[n]);
            if (RESETS) decay = masked(decay, c.kept[k]), h[n] = masked(h[n], c.kept[k]);
            w.decay[k][n] = decay;
            h[n] = decay * h[n] + dtu * B[n];
            w.h[k + 1][n] = h[n];
            if (GATED) y += h[n] * C[n];
        }
        w.in.y[k] = y;
    }
}

// dB and dC of a tile at one position: T sums over the channels each, side by side.
template <int T>
struct TileSums {
    static constexpr int VECS = 2 * T > LANES ? 2 * T / LANES : 1;
    vec v[VECS];

    void operator+=(const TileSums& other) {
        for (int i = 0; i < VECS; ++i) v[i] += other.v[i];
    }
};

// Adds blocks up as a binary tree, as they come: neighbours first, then pairs, then fours.
template <int T>
struct Tree {
    typedef std::vector<TileSums<T>> Sums;  // (tiles, CHUNK)
    Sums next;                              // of the block that comes
    std::vector<Sums> levels;               // levels[l] holds 2^l blocks, if bit l of `blocks` is set
    uint64_t blocks = 0;

    explicit Tree(const Scan& s) : next(padded_states(s.states) / T * CHUNK), levels(40) {}

    static void add(Sums& left, const Sums& right) {
        for (size_t i = 0; i < left.size(); ++i) left[i] += right[i];
    }

    void take() {
        Sums* right = &next;
        int level = 0;
        for (; blocks >> level & 1; ++level) add(levels[level], *right), right = &levels[level];
        levels[level].resize(next.size());
        std::swap(levels[level], *right);
        ++blocks;
    }

    // The sum of all blocks taken; leaves none.
    const Sums& finish() {
        Sums* right = nullptr;
        for (int level = 0; blocks >> level; ++level) {
            if (!(blocks >> level & 1)) continue;
            if (right) add(levels[level], *right);
            right = &levels[level];
        }
        blocks = 0;
        return *right;
    }
};

// The adjoint of what ``recompute`` left.
template <int T>
void reverse(BackwardBlock& block, Work& w, const Chunk& c, int64_t n0, TileSums<T>* sums) {
    const vec* A = &block.A[n0];
    vec q[T], dA[T];
#pragma GCC unroll 16
    for (int n = 0; n < T; ++n) q[n] = block.q[n0 + n], dA[n] = block.dA[n0 + n];
    for (int k = c.count - 1; k >= 0; --k) {
        const float *B = c.B[k] + n0, *C = c.C[k] + n0;
        const vec dt = w.in.dt[k], dtu = w.in.dtu[k], dy = w.dy[k];
        vec along = w.along[k], ddt = w.ddt[k];
        vec products[TileSums<T>::VECS * LANES] = {};
#pragma GCC unroll 16
        for (int n = 0; n < T; ++n) {
            const vec g = q[n] + dy * C[n];
            products[n] = g * dtu;
            products[T + n] = w.h[k + 1][n] * dy;
            along += g * B[n];
            q[n] = g * w.decay[k][n];
            const vec through = q[n] * w.h[k][n];
            ddt += through * A[n];
            dA[n] += through * dt;
        }
        w.along[k] = along, w.ddt[k] = ddt;
        for (int i = 0; i < TileSums<T>::VECS; ++i) sums[k].v[i] = lane_sums(products + i * LANES);
    }
#pragma GCC unroll 16
    for (int n = 0; n < T; ++n) block.q[n0 + n] = q[n], block.dA[n0 + n] = dA[n];
}

// How ``recompute`` goes through this block and chunk.
template <int T>
auto recompute_for(bool negative, bool gated, bool resets) {
    if (negative)
        return gated ? (resets ? recompute<T, true, true, true> : recompute<T, true, true, false>)
                     : (resets ? recompute<T, true, false, true> : recompute<T, true, false, false>);
    return gated ? (resets ? recompute<T, false, true, true> : recompute<T, false, true, false>)
                 : (resets ? recompute<T, false, false, true> : recompute<T, false, false, false>);
}

template <int T>
void backward_chunk(const Scan& s, const Chunk& c, Work& w, BackwardBlock& block, int64_t b, int64_t chunk, TileSums<T>* sums) {
    const int64_t channel = block.channel, row = b * s.length;
    const int width = block.width;
    const vec skip = s.skip ? load(s.skip + channel, width) : vec{};
    const int64_t at_row = row * s.channels + channel;
    const Ahead<4, 3> ahead{{s.u + c.next_row * s.u_batch + channel, s.delta + c.next_row * s.delta_batch + channel,
                             s.z ? s.z + c.next_row * s.z_batch + channel : s.u + c.next_row * s.u_batch + channel,
                             s.grad_y + c.next_row * s.length * s.channels + channel},
                            {s.u_token, s.delta_token, s.z ? s.z_token : s.u_token, s.channels},
                            {s.grad_u + at_row, s.grad_delta + at_row, (s.z ? s.grad_z : s.grad_u) + at_row},
                            s.channels};
    w.in.open<true>(s, c, b, channel, width);
    for (int k = 0; k < c.count; ++k) {
        w.dy[k] = load(s.grad_y + (row + c.token[k]) * s.channels + channel, width);
        w.along[k] = w.ddt[k] = vec{};
    }
    if (s.z)
        for (int k = 0; k < c.count; ++k) {
            const vec z = load(s.z + b * s.z_batch + c.token[k] * s.z_token + channel, width), gate = sigmoid(z);
            w.dz[k] = w.dy[k] * gate * (1.0f + z * (1.0f - gate));
            w.dy[k] *= z * gate;
        }
    const float* states = checkpoint(s, b, chunk, block);
    const float* next_states = chunk ? states - checkpoint_floats(s) : states;
    const auto again = recompute_for<T>(block.negative, s.z, c.resets);
    for (int64_t n0 = 0; n0 < s.states; n0 += T, sums += CHUNK) {
        std::memcpy(w.h[0], states + n0 * LANES, sizeof(vec) * T);
        again(&block.A2[n0], w, c, ahead, next_states, n0);
        reverse<T>(block, w, c, n0, sums);
    }
    for (int k = 0; k < c.count; ++k) {
        const int64_t at = (row + c.token[k]) * s.channels + channel;
        vec ddt = w.ddt[k] + w.in.u[k] * w.along[k];
        if (s.softplus) ddt *= w.in.slope[k];
        store(s.grad_u + at, w.in.dt[k] * w.along[k] + skip * w.dy[k], width);
        store(s.grad_delta + at, ddt, width);
        if (s.z) store(s.grad_z + at, w.dz[k] * w.in.y[k], width);
        block.dskip += w.dy[k] * w.in.u[k];
        block.dbias += ddt;
    }
}

// The sums of all tiles to rows of N.
template <int T>
void store_sums(const std::vector<TileSums<T>>& sums, const Scan& s, const Chunk& c, int64_t b, int64_t group, float* dB, float* dC) {
    for (int64_t n0 = 0; n0 < s.states; n0 += T) {
        const int64_t count = s.states - n0;
        for (int k = 0; k < c.count; ++k) {
            const float* row = (const float*)&sums[n0 / T * CHUNK + k];
            const int64_t at = ((b * s.length + c.token[k]) * s.groups + group) * s.states + n0;
            if (count >= T) std::memcpy(dB + at, row, sizeof(float) * T), std::memcpy(dC + at, row + T, sizeof(float) * T);
            else std::memcpy(dB + at, row, sizeof(float) * count), std::memcpy(dC + at, row + T, sizeof(float) * count);
        }
    }
}

// Where tasks leave their sums. dB and dC of part 0 of a group go straight into the result.
struct Sums {
    int64_t shared;                    // floats of dB
    std::unique_ptr<float[]> B, C;     // (parts - 1, B, L, G, N)
    std::vector<float> A, skip, bias;  // (row tasks, D, N), (row tasks, D)

    Sums(const Scan& s, const Plan& p)
        : shared(s.batch * s.length * s.groups * s.states), B(new float[p.parts > 1 ? (p.parts - 1) * shared : 0]),
          C(new float[p.parts > 1 ? (p.parts - 1) * shared : 0]), A(p.row_tasks * s.channels * s.states), skip(p.row_tasks * s.channels),
          bias(skip.size()) {}
};

template <int T>
void backward_task(const Scan& s, const Task& task, Sums& sums) {
    const int64_t N = s.states, chunks = ceil_div(s.length, CHUNK);
    std::vector<BackwardBlock> blocks;
    for (const Block& block : task.blocks) blocks.emplace_back(s, block);
    Work w;
    Chunk c(s);
    Tree<T> tree(s);
    float* dB = task.part ? &sums.B[(task.part - 1) * sums.shared] : s.grad_B;
    float* dC = task.part ? &sums.C[(task.part - 1) * sums.shared] : s.grad_C;
    for (int64_t b = task.first_row; b < task.end_row; ++b) {
        for (BackwardBlock& block : blocks) {
            if (s.grad_last) gather(s.grad_last + (b * s.channels + block.channel) * N, N, block.width, block.q);
            else for (vec& q : block.q) q = vec{};
        }
        for (int64_t chunk = chunks - 1; chunk >= 0; --chunk) {
            c.open(s, b, task.group, chunk * CHUNK, chunk || b + 1 == task.end_row ? b : b + 1, (chunk ? chunk - 1 : chunks - 1) * CHUNK);
            for (BackwardBlock& block : blocks) {
                backward_chunk<T>(s, c, w, block, b, chunk, tree.next.data());
                tree.take();
            }
            store_sums(tree.finish(), s, c, b, task.group, dB, dC);
        }
        if (s.grad_start)
            for (BackwardBlock& block : blocks) scatter(s.grad_start + (b * s.channels + block.channel) * N, N, block.width, block.q);
    }
    for (BackwardBlock& block : blocks) {
        const int64_t at = task.row_task * s.channels + block.channel;
        scatter(&sums.A[at * N], N, block.width, block.dA);
        store(&sums.skip[at], block.dskip, block.width);
        store(&sums.bias[at], block.dbias, block.width);
    }
}

void run_forward(const Scan& s) {
    const Plan p = plan(s.batch, s.groups, s.channels, s.threads);
    const auto task = s.states <= 4 ? forward_task<4> : s.states <= 8 ? forward_task<8> : forward_task<WIDE>;
#pragma omp parallel for schedule(dynamic) num_threads(s.threads)
    for (int64_t i = 0; i < (int64_t)p.tasks.size(); ++i) task(s, p.tasks[i]);
}

// total[i] = parts[0][i] + parts[1][i] + ..
void add_up(float* total, const std::vector<float>& parts, int64_t size) {
    if (!total) return;
    std::memset(total, 0, sizeof(float) * size);
    for (size_t i = 0; i < parts.size(); ++i) total[i % size] += parts[i];
}

void run_backward(const Scan& s) {
    const Plan p = plan(s.batch, s.groups, s.channels, s.threads);
    const auto task = s.states <= 4 ? backward_task<4> : backward_task<HALF>;
    Sums sums(s, p);
#pragma omp parallel for schedule(dynamic) num_threads(s.threads)
    for (int64_t i = 0; i < (int64_t)p.tasks.size(); ++i) task(s, p.tasks[i], sums);
    // The upper levels of the tree, over parts: part 0 lies in the result.
    auto part = [&](float* result, float* others, int64_t k) { return k ? others + (k - 1) * sums.shared : result; };
    for (int64_t step = 1; step < p.parts; step *= 2)
        for (int64_t k = 0; k + step < p.parts; k += 2 * step) {
            float *left_B = part(s.grad_B, sums.B.get(), k), *left_C = part(s.grad_C, sums.C.get(), k);
            const float *right_B = part(s.grad_B, sums.B.get(), k + step), *right_C = part(s.grad_C, sums.C.get(), k + step);
#pragma omp parallel for num_threads(s.threads)
            for (int64_t i = 0; i < sums.shared; ++i) left_B[i] += right_B[i], left_C[i] += right_C[i];
        }
    add_up(s.grad_A, sums.A, s.channels * s.states);
    add_up(s.grad_skip, sums.skip, s.channels);
    add_up(s.grad_bias, sums.bias, s.channels);
}

}  // namespace

// Depthwise causal convolution along a walk, with optional SiLU: y[p] = f(bias + sum_j w[K - 1 - j] x[p - j]).
struct Conv {
    int64_t batch, length, channels, taps;
    const float *x, *weight, *bias;  // (B, L, D), (D, K), (D,) or null
    const int32_t* tokens;           // (L,) token at each position; or null: forward
    const uint8_t* keep;             // (B, L) 0 where a sequence begins; or null
    int64_t x_batch, x_token;
    int32_t silu, threads;
    float* y;                        // (B, L, D)
    // backward only
    const float* grad_y;             // (B, L, D) contiguous
    float *grad_x, *grad_weight, *grad_bias;  // (B, L, D), (D, K), (D,) or null
};

namespace {

constexpr int MAX_TAPS = 8;

// A chunk of one row, with the K - 1 positions on either side that its taps reach.
template <int K>
struct ConvChunk {
    static constexpr int SIZE = CHUNK + 2 * (K - 1);
    int count;
    int64_t token[SIZE];  // of position first - (K - 1) + i; -1 outside the row
    int64_t after[SIZE];  // of the position a chunk further on, which will be read soon
    int reach[SIZE];      // how many taps of that position stay inside its sequence

    ConvChunk(const Conv& c, int64_t b, int64_t first) : count(int(c.length - first < CHUNK ? c.length - first : CHUNK)) {
        const uint8_t* keep = c.keep ? c.keep + b * c.length : nullptr;
        for (int i = 0; i < count + 2 * (K - 1); ++i) {
            const int64_t p = first - (K - 1) + i;
            const int64_t q = p + CHUNK < c.length ? p + CHUNK : c.length - 1;
            token[i] = p < 0 || p >= c.length ? -1 : c.tokens ? c.tokens[p] : p;
            after[i] = c.tokens ? c.tokens[q] : q;
            reach[i] = token[i] < 0 ? 0 : 1;
            while (token[i] >= 0 && reach[i] < K && p - reach[i] >= 0 && (!keep || keep[p - reach[i] + 1])) ++reach[i];
        }
    }
};

template <int K>
struct Taps {
    vec weight[K];  // weight[j] belongs to the input j positions back
    vec bias;

    Taps(const Conv& c, int64_t channel, int width) : weight{}, bias{} {
        for (int lane = 0; lane < width; ++lane)
            for (int j = 0; j < K; ++j) weight[j][lane] = c.weight[(channel + lane) * K + K - 1 - j];
        if (c.bias) bias = load(c.bias + channel, width);
    }

    // The convolution at x[0], whose past lies before it.
    vec at(const vec* x, int reach) const {
        vec y = bias;
        if (reach == K) {
#pragma GCC unroll 8
            for (int j = 0; j < K; ++j) y += weight[j] * x[-j];
        } else
            for (int j = 0; j < reach; ++j) y += weight[j] * x[-j];
        return y;
    }
};

inline vec load_token(const Conv& c, int64_t b, int64_t token, int64_t channel, int width) {
    return token < 0 ? vec{} : load(c.x + b * c.x_batch + token * c.x_token + channel, width);
}

template <int K>
void conv_forward_task(const Conv& c, const Task& task) {
    vec x[CHUNK + K - 1];
    std::vector<Taps<K>> taps;
    for (const Block& block : task.blocks) taps.emplace_back(c, block.channel, block.width);
    for (int64_t b = task.first_row; b < task.end_row; ++b)
        for (int64_t first = 0; first < c.length; first += CHUNK) {
            const ConvChunk<K> chunk(c, b, first);
            for (size_t n = 0; n < taps.size(); ++n) {
                const int64_t channel = task.blocks[n].channel;
                const int width = task.blocks[n].width;
                float* y_at = c.y + b * c.length * c.channels + channel;
                for (int i = 0; i < chunk.count + K - 1; ++i) x[i] = load_token(c, b, chunk.token[i], channel, width);
                for (int i = K - 1; i < chunk.count + K - 1; ++i) {
                    __builtin_prefetch(c.x + b * c.x_batch + chunk.after[i] * c.x_token + channel);
                    __builtin_prefetch(y_at + chunk.after[i] * c.channels, 1);
                    vec y = taps[n].at(x + i, chunk.reach[i]);
                    if (c.silu) y *= sigmoid(y);
                    store(y_at + chunk.token[i] * c.channels, y, width);
                }
            }
        }
}

template <int K>
void conv_backward_task(const Conv& c, const Task& task, float* weights, float* biases) {
    vec x[ConvChunk<K>::SIZE], g[ConvChunk<K>::SIZE];
    std::vector<Taps<K>> taps;
    for (const Block& block : task.blocks) taps.emplace_back(c, block.channel, block.width);
    std::vector<vec> grads(taps.size() * (K + 1));  // of the taps and the bias of each block
    for (int64_t b = task.first_row; b < task.end_row; ++b)
        for (int64_t first = 0; first < c.length; first += CHUNK) {
            const ConvChunk<K> chunk(c, b, first);
            const int own = K - 1, end = own + chunk.count, known = end + K - 1;
            for (size_t n = 0; n < taps.size(); ++n) {
                const int64_t channel = task.blocks[n].channel;
                const int width = task.blocks[n].width;
                const Taps<K>& t = taps[n];
                vec* grad = &grads[n * (K + 1)];
                for (int i = 0; i < known; ++i) x[i] = load_token(c, b, chunk.token[i], channel, width);
                // Of this chunk's positions and of the K - 1 after them, whose taps reach back into it.
                for (int i = own; i < known; ++i) {
                    g[i] = chunk.token[i] < 0 ? vec{} : load(c.grad_y + (b * c.length + chunk.token[i]) * c.channels + channel, width);
                    if (!c.silu) continue;
                    const vec before = t.at(x + i, chunk.reach[i]), gate = sigmoid(before);
                    g[i] *= gate * (1.0f + before * (1.0f - gate));
                }
                for (int i = own; i < end; ++i) {
                    vec grad_x = {};
                    for (int j = 0; j < K; ++j) {
                        if (j < chunk.reach[i + j]) grad_x += t.weight[j] * g[i + j];
                        if (j < chunk.reach[i]) grad[j] += g[i] * x[i - j];
                    }
                    grad[K] += g[i];
                    store(c.grad_x + (b * c.length + chunk.token[i]) * c.channels + channel, grad_x, width);
                }
            }
        }
    for (size_t n = 0; n < taps.size(); ++n) {
        const vec* grad = &grads[n * (K + 1)];
        const int64_t at = task.row_task * c.channels + task.blocks[n].channel;
        for (int lane = 0; lane < task.blocks[n].width; ++lane)
            for (int j = 0; j < K; ++j) weights[(at + lane) * K + K - 1 - j] = grad[j][lane];
        store(biases + at, grad[K], task.blocks[n].width);
    }
}

template <int K>
void conv_forward(const Conv& c) {
    const Plan p = plan(c.batch, 1, c.channels, c.threads);
#pragma omp parallel for schedule(dynamic) num_threads(c.threads)
    for (int64_t i = 0; i < (int64_t)p.tasks.size(); ++i) conv_forward_task<K>(c, p.tasks[i]);
}

template <int K>
void conv_backward(const Conv& c) {
    const Plan p = plan(c.batch, 1, c.channels, c.threads);
    std::vector<float> weights(p.row_tasks * c.channels * K), biases(p.row_tasks * c.channels);
#pragma omp parallel for schedule(dynamic) num_threads(c.threads)
    for (int64_t i = 0; i < (int64_t)p.tasks.size(); ++i) conv_backward_task<K>(c, p.tasks[i], weights.data(), biases.data());
    add_up(c.grad_weight, weights, c.channels * K);
    add_up(c.grad_bias, biases, c.channels);
}

template <int K = 1>
int with_taps(const Conv& c, bool backward) {
    if constexpr (K > MAX_TAPS) return 1;
    else {
        if (c.taps != K) return with_taps<K + 1>(c, backward);
        backward ? conv_backward<K>(c) : conv_forward<K>(c);
        return 0;
    }
}

// What a state costs at least, operands in registers: one exponential and three multiply-adds forward; the same and eight more
// backward. For benchmarks.
template <bool BACKWARD>
vec bare_arithmetic(int64_t positions) {
    constexpr int T = BACKWARD ? HALF : WIDE;
    vec A[T], h[T], q[T] = {}, dA[T] = {}, y[4] = {}, along = {}, ddt = {}, products = {};
    for (int n = 0; n < T; ++n) A[n] = splat(-0.01f * (n + 1)), h[n] = vec{};
    vec dt = splat(0.1f);
    for (int64_t p = 0; p < positions; ++p) {
#pragma GCC unroll 16
        for (int n = 0; n < T; ++n) {
            const vec decay = exp2_negative(dt * A[n]);
            h[n] = decay * h[n] + dt * 0.25f;
            y[n % 4] += h[n] * 0.5f;
            if (!BACKWARD) continue;
            const vec g = q[n] + dt * 0.75f;
            products = g * dt + (products + h[n] * dt);
            along += g * 0.125f;
            q[n] = g * decay;
            const vec through = q[n] * h[n];
            ddt += through * A[n];
            dA[n] += through * dt;
        }
        dt = dt * 1.0000001f;
    }
    vec all = y[0] + y[1] + y[2] + y[3] + along + ddt + products;
    for (int n = 0; n < T; ++n) all += dA[n];
    return all;
}

}  // namespace

extern "C" {

int vivim_scan_max_states() { return MAX_STATES; }
int vivim_scan_struct_bytes() { return int(sizeof(Scan)); }
int vivim_conv_struct_bytes() { return int(sizeof(Conv)); }
int vivim_conv_max_taps() { return MAX_TAPS; }

// Of these is the size of Scan.checkpoints made: (B, ceil(L / chunk), G, ceil(D / G / lanes), padded states, lanes) floats.
int vivim_scan_chunk() { return CHUNK; }
int vivim_scan_lanes() { return LANES; }
int vivim_scan_padded_states(int states) { return int(padded_states(states)); }

// State elements that were updated; what they add up to goes to *sink, so that no compiler leaves them out.
int64_t vivim_scan_floor(int64_t positions, int32_t backward, float* sink) {
    *sink = sum(backward ? bare_arithmetic<true>(positions) : bare_arithmetic<false>(positions));
    return positions * LANES * (backward ? HALF : WIDE);
}

// 0: done; 1: more taps than supported.
int vivim_conv_forward(const Conv* c) { return with_taps(*c, false); }
int vivim_conv_backward(const Conv* c) { return with_taps(*c, true); }

// 0: done; 1: more states than supported.
int vivim_scan_forward(const Scan* s) {
    if (s->states > MAX_STATES) return 1;
    run_forward(*s);
    return 0;
}

int vivim_scan_backward(const Scan* s) {
    if (s->states > MAX_STATES) return 1;
    run_backward(*s);
    return 0;
}

}  // extern "C"
