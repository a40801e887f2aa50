// The selective scan and the causal convolution before it on a CPU, forward and backward, float32, channels last. C ABI, no
// dependency but OpenMP.
//
// Sixteen channels go side by side in one vector; the N states of a channel block stay in registers (N = 16: sixteen
// vectors). Step size bias, softplus, skip and gate are fused. The backward recomputes states chunk by chunk from
// checkpoints that the forward left. Work is cut into tasks of a fixed size, each with its own partial sums, which are
// added in a fixed order: the result does not depend on the number of threads.
//
// Legend: B batch, L tokens, D channels, N states, G groups of B and C (a group serves D / G channels), P positions of a walk.

#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int LANES = 16;            // channels of a block
constexpr int BLOCKS_PER_TASK = 2;   // channel blocks of a task
constexpr int CHUNK = 32;            // positions between checkpoints
constexpr int BATCH_TASKS = 16;      // at most this many tasks share the batch

typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int32_t ivec __attribute__((vector_size(LANES * 4)));

inline vec splat(float x) { return x - vec{}; }

// 2^x to 1e-7, by a polynomial on [-1/2, 1/2] and the exponent's bits. Below -126 it stays at 2^-126; NaN stays NaN.
inline vec exp2v(vec x) {
    x = x < -126.0f ? splat(-126.0f) : x;
    x = x > 126.0f ? splat(126.0f) : x;
    const vec whole = (x + 12582912.0f) - 12582912.0f;
    const vec r = x - whole;
    vec y = splat(0.00015345800f);
    y = y * r + 0.0013399932f;
    y = y * r + 0.0096184890f;
    y = y * r + 0.0555032878f;
    y = y * r + 0.2402264689f;
    y = y * r + 0.6931472057f;
    y = y * r + 1.0f;
    const ivec bits = (__builtin_convertvector(whole, ivec) + 127) << 23;
    return y * (vec)bits;
}

// 2^x for x <= 0 in a third fewer steps: rounding to the nearest whole number leaves that number's exponent bits where the shift
// wants them, and for negative floats a smaller float is a larger integer, which makes the clamp one integer minimum.
inline vec exp2_negative(vec x) {
    constexpr float MAGIC = 12582912.0f + 127.0f;  // 1.5 * 2^23 + the exponent's bias
    const ivec lowest = (ivec)splat(-126.0f), bits = (ivec)x;
    x = (vec)(bits < lowest ? bits : lowest);
    const vec shifted = x + MAGIC;
    const vec r = x - (shifted - MAGIC);
    vec y = splat(0.00015345800f);
    y = y * r + 0.0013399932f;
    y = y * r + 0.0096184890f;
    y = y * r + 0.0555032878f;
    y = y * r + 0.2402264689f;
    y = y * r + 0.6931472057f;
    y = y * r + 1.0f;
    return y * (vec)((ivec)shifted << 23);
}

// e^(dt A) with A already times log2(e); NEGATIVE promises dt >= 0 and A < 0.
template <bool NEGATIVE>
inline vec decay_of(vec dt, vec A) { return NEGATIVE ? exp2_negative(dt * A) : exp2v(dt * A); }

constexpr float LOG2E = 1.4426950408889634f;

inline vec sigmoid(vec x) { return 1.0f / (1.0f + exp2v(x * -LOG2E)); }

// log(1 + e^x) = max(x, 0) + log1p(e^-|x|), with log1p(t) = 2 atanh(t / (2 + t)).
inline vec softplus(vec x) {
    const vec positive = x > 0.0f ? x : splat(0.0f);
    const vec magnitude = x > 0.0f ? x : -x;
    const vec t = exp2v(magnitude * -LOG2E);
    const vec s = t / (2.0f + t);
    const vec q = s * s;
    vec y = splat(2.0f / 15.0f);
    y = y * q + 2.0f / 13.0f;
    y = y * q + 2.0f / 11.0f;
    y = y * q + 2.0f / 9.0f;
    y = y * q + 2.0f / 7.0f;
    y = y * q + 2.0f / 5.0f;
    y = y * q + 2.0f / 3.0f;
    y = y * q + 2.0f;
    return positive + y * s;
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
    float *y, *last;                 // (B, L, D), (B, D, N)
    float* checkpoints;              // (B, chunks, D, N) state before each chunk; null: not wanted
    // backward only
    const float *grad_y, *grad_last;                   // (B, L, D) contiguous, (B, D, N); grad_last or null
    float *grad_u, *grad_delta, *grad_z;               // (B, L, D); grad_z null without z
    float *grad_A, *grad_skip, *grad_bias, *grad_start;  // (D, N), (D,), (D,), (B, D, N); all but grad_A null if unwanted
    float *grad_B, *grad_C;                            // (B, L, G, N)
};

namespace {

struct Task {
    int64_t first_row, end_row;   // rows of the batch
    int64_t group, channel, end;  // channels [channel, end) of the group
    int64_t split;                // which part of its group
};

struct Plan {
    std::vector<Task> tasks;
    int64_t splits, row_tasks;
};

Plan plan(const Scan& s) {
    const int64_t per_group = s.channels / s.groups, width = LANES * BLOCKS_PER_TASK;
    const int64_t splits = (per_group + width - 1) / width;
    const int64_t rows = s.batch < BATCH_TASKS ? 1 : (s.batch + BATCH_TASKS - 1) / BATCH_TASKS;
    Plan p{{}, splits, (s.batch + rows - 1) / rows};
    for (int64_t r = 0; r < p.row_tasks; ++r)
        for (int64_t g = 0; g < s.groups; ++g)
            for (int64_t k = 0; k < splits; ++k) {
                const int64_t channel = g * per_group + k * width, group_end = (g + 1) * per_group;
                const int64_t end_row = (r + 1) * rows;
                p.tasks.push_back({r * rows, end_row < s.batch ? end_row : s.batch, g, channel,
                                   channel + width < group_end ? channel + width : group_end, k});
            }
    return p;
}

inline int64_t token_at(const Scan& s, int64_t group, int64_t position) {
    return s.tokens ? s.tokens[group * s.length + position] : position;
}

inline bool kept(const Scan& s, int64_t b, int64_t group, int64_t position) {
    return !s.keep || s.keep[(b * s.groups + group) * s.length + position];
}

inline vec step_size(const Scan& s, vec raw) { return s.softplus ? softplus(raw) : raw; }

// (width, N) rows of a (.., D, N) array to N vectors over the channels, and back.
template <int NP>
inline void gather(const float* p, int64_t N, int width, vec* out, float scale = 1.0f) {
    for (int n = 0; n < NP; ++n) out[n] = vec{};
    for (int lane = 0; lane < width; ++lane)
        for (int64_t n = 0; n < N; ++n) out[n][lane] = p[lane * N + n] * scale;
}

template <int NP>
inline void scatter(float* p, int64_t N, int width, const vec* in) {
    for (int lane = 0; lane < width; ++lane)
        for (int64_t n = 0; n < N; ++n) p[lane * N + n] = in[n][lane];
}

template <int NP>
inline void load_states(const float* p, int64_t N, float* out) {
    if (N == NP) std::memcpy(out, p, sizeof(float) * NP);
    else {
        std::memset(out, 0, sizeof(float) * NP);
        std::memcpy(out, p, sizeof(float) * N);
    }
}

// A row of N states: where it lies if N is NP, or a padded copy.
template <int NP>
inline const float* states_at(const float* p, int64_t N, float* copy) {
    if (N == NP) return p;
    load_states<NP>(p, N, copy);
    return copy;
}

// What a chunk needs per position before its recurrence runs, computed first so that no long chain of dependent steps
// (softplus, sigmoid) stands between two states.
struct Prepared {
    vec u[CHUNK], raw[CHUNK], dt[CHUNK], dtu[CHUNK], y[CHUNK];
    int64_t token[CHUNK];
    bool keep[CHUNK];
};

inline void prepare(const Scan& s, Prepared& w, int64_t b, int64_t group, int64_t channel, int width, int64_t first, int count) {
    const vec bias = s.bias ? load(s.bias + channel, width) : vec{}, skip = s.skip ? load(s.skip + channel, width) : vec{};
    for (int k = 0; k < count; ++k) {
        const int64_t t = token_at(s, group, first + k);
        w.token[k] = t;
        w.keep[k] = kept(s, b, group, first + k);
        w.u[k] = load(s.u + b * s.u_batch + t * s.u_token + channel, width);
        w.raw[k] = load(s.delta + b * s.delta_batch + t * s.delta_token + channel, width) + bias;
    }
    for (int64_t p = first + CHUNK; p < first + 2 * CHUNK && p < s.length; ++p) {
        const int64_t t = token_at(s, group, p);
        __builtin_prefetch(s.u + b * s.u_batch + t * s.u_token + channel);
        __builtin_prefetch(s.delta + b * s.delta_batch + t * s.delta_token + channel);
        if (s.z) __builtin_prefetch(s.z + b * s.z_batch + t * s.z_token + channel);
    }
    for (int k = 0; k < count; ++k) w.dt[k] = step_size(s, w.raw[k]);
    for (int k = 0; k < count; ++k) w.dtu[k] = w.dt[k] * w.u[k], w.y[k] = skip * w.u[k];
}

// Are all decays of this block at most 1, so that the cheaper exponential serves?
inline bool decays(const Scan& s, int64_t channel, int width) {
    if (!s.softplus) return false;
    for (int64_t i = channel * s.states; i < (channel + width) * s.states; ++i)
        if (!(s.A[i] < 0.0f)) return false;
    return true;
}

// One chunk of one channel block; h is carried from chunk to chunk.
template <int NP, bool NEGATIVE>
void forward_chunk(const Scan& s, Prepared& w, const vec* A_of_block, vec* h_of_block, int64_t b, int64_t group, int64_t channel, int width,
                   int64_t first, int count) {
    const int64_t N = s.states, L = s.length, chunks = (L + CHUNK - 1) / CHUNK;
    vec A[NP], h[NP];
    for (int n = 0; n < NP; ++n) A[n] = A_of_block[n], h[n] = h_of_block[n];
    if (s.checkpoints) scatter<NP>(s.checkpoints + ((b * chunks + first / CHUNK) * s.channels + channel) * N, N, width, h);
    prepare(s, w, b, group, channel, width, first, count);
    for (int k = 0; k < count; ++k) {
        if (!w.keep[k]) for (int n = 0; n < NP; ++n) h[n] = vec{};
        float B_copy[NP], C_copy[NP];
        const float* Bv = states_at<NP>(s.Bm + b * s.B_batch + w.token[k] * s.B_token + group * s.B_group, N, B_copy);
        const float* Cv = states_at<NP>(s.Cm + b * s.C_batch + w.token[k] * s.C_token + group * s.C_group, N, C_copy);
        const vec dt = w.dt[k], dtu = w.dtu[k];
        vec y[4] = {w.y[k], {}, {}, {}};
#pragma GCC unroll 16
        for (int n = 0; n < NP; ++n) {
            h[n] = decay_of<NEGATIVE>(dt, A[n]) * h[n] + dtu * Bv[n];
            y[n % 4] += h[n] * Cv[n];
        }
        w.y[k] = (y[0] + y[1]) + (y[2] + y[3]);
    }
    for (int n = 0; n < NP; ++n) h_of_block[n] = h[n];
    if (s.z)
        for (int k = 0; k < count; ++k) {
            const vec z = load(s.z + b * s.z_batch + w.token[k] * s.z_token + channel, width);
            w.y[k] *= z * sigmoid(z);
        }
    for (int k = 0; k < count; ++k) store(s.y + (b * L + w.token[k]) * s.channels + channel, w.y[k], width);
}

// The channel blocks of a task take turns chunk by chunk, so that neighbouring cache lines are used while they are near.
template <int NP>
void forward_task(const Scan& s, const Task& task) {
    const int64_t N = s.states, L = s.length;
    const int blocks = int((task.end - task.channel + LANES - 1) / LANES);
    vec A[BLOCKS_PER_TASK][NP], h[BLOCKS_PER_TASK][NP];
    bool negative[BLOCKS_PER_TASK];
    Prepared w;
    auto channel_of = [&](int k) { return task.channel + k * LANES; };
    auto width_of = [&](int k) { const int64_t left = task.end - channel_of(k); return int(left < LANES ? left : LANES); };
    for (int k = 0; k < blocks; ++k) {
        gather<NP>(s.A + channel_of(k) * N, N, width_of(k), A[k], LOG2E);
        negative[k] = decays(s, channel_of(k), width_of(k));
    }
    for (int64_t b = task.first_row; b < task.end_row; ++b) {
        for (int k = 0; k < blocks; ++k) {
            if (s.start) gather<NP>(s.start + (b * s.channels + channel_of(k)) * N, N, width_of(k), h[k]);
            else for (int n = 0; n < NP; ++n) h[k][n] = vec{};
        }
        for (int64_t first = 0; first < L; first += CHUNK) {
            const int count = int(L - first < CHUNK ? L - first : CHUNK);
            for (int k = 0; k < blocks; ++k)
                if (negative[k]) forward_chunk<NP, true>(s, w, A[k], h[k], b, task.group, channel_of(k), width_of(k), first, count);
                else forward_chunk<NP, false>(s, w, A[k], h[k], b, task.group, channel_of(k), width_of(k), first, count);
        }
        for (int k = 0; k < blocks; ++k) scatter<NP>(s.last + (b * s.channels + channel_of(k)) * N, N, width_of(k), h[k]);
    }
}

// What one task adds up over rows and positions, before the tasks are added in order.
struct Partial {
    std::vector<float> A, skip, bias;  // (channels of the task) x N, and x 1
};

template <int NP>
struct Work {
    Prepared in;
    vec h[CHUNK + 1][NP], decay[CHUNK][NP];  // h[k] is the state before position k, h[k + 1] after it; a reset shows in decay alone
    vec z[CHUNK], dy[CHUNK], gate[CHUNK], dz[CHUNK], du[CHUNK], ddt[CHUNK];
    vec dB[CHUNK][NP], dC[CHUNK][NP];
    vec q[BLOCKS_PER_TASK][NP], dA[BLOCKS_PER_TASK][NP], dskip[BLOCKS_PER_TASK], dbias[BLOCKS_PER_TASK];
};

// States of one chunk again, from its checkpoint, with everything the reverse sweep needs.
template <int NP, bool NEGATIVE>
void recompute(const Scan& s, Work<NP>& w, int64_t b, int64_t group, int64_t channel, int width, int64_t first, int count) {
    const int64_t N = s.states, L = s.length, chunks = (L + CHUNK - 1) / CHUNK;
    vec A[NP], h[NP];
    gather<NP>(s.A + channel * N, N, width, A, LOG2E);
    gather<NP>(s.checkpoints + ((b * chunks + first / CHUNK) * s.channels + channel) * N, N, width, h);
    for (int n = 0; n < NP; ++n) w.h[0][n] = h[n];
    prepare(s, w.in, b, group, channel, width, first, count);
    for (int k = 0; k < count; ++k) {
        float B_copy[NP], C_copy[NP];
        const float* Bv = states_at<NP>(s.Bm + b * s.B_batch + w.in.token[k] * s.B_token + group * s.B_group, N, B_copy);
        const float* Cv = states_at<NP>(s.Cm + b * s.C_batch + w.in.token[k] * s.C_token + group * s.C_group, N, C_copy);
        const vec dt = w.in.dt[k], dtu = w.in.dtu[k];
        vec y[4] = {w.in.y[k], {}, {}, {}};
        if (!w.in.keep[k]) for (int n = 0; n < NP; ++n) h[n] = vec{};
#pragma GCC unroll 16
        for (int n = 0; n < NP; ++n) {
            const vec decay = decay_of<NEGATIVE>(dt, A[n]);
            w.decay[k][n] = decay;
            h[n] = decay * h[n] + dtu * Bv[n];
            w.h[k + 1][n] = h[n];
            y[n % 4] += h[n] * Cv[n];
        }
        if (!w.in.keep[k]) for (int n = 0; n < NP; ++n) w.decay[k][n] = vec{};
        w.in.y[k] = (y[0] + y[1]) + (y[2] + y[3]);
    }
    for (int k = 0; k < count; ++k) w.dy[k] = load(s.grad_y + (b * L + w.in.token[k]) * s.channels + channel, width);
    if (!s.z) return;
    for (int k = 0; k < count; ++k) w.z[k] = load(s.z + b * s.z_batch + w.in.token[k] * s.z_token + channel, width);
    for (int k = 0; k < count; ++k) {
        const vec gate = sigmoid(w.z[k]);
        store(s.grad_z + (b * L + w.in.token[k]) * s.channels + channel,
              w.dy[k] * w.in.y[k] * gate * (1.0f + w.z[k] * (1.0f - gate)), width);
        w.dy[k] *= w.z[k] * gate;
    }
}

// FIRST: the first channel block of a task sets dB and dC, the others add to them.
template <int NP, bool FIRST>
void reverse(const Scan& s, Work<NP>& w, int block, int64_t b, int64_t group, int64_t channel, int width, int64_t first, int count) {
    const int64_t N = s.states, L = s.length;
    vec A[NP], q[NP], dA[NP];
    gather<NP>(s.A + channel * N, N, width, A);
    for (int n = 0; n < NP; ++n) q[n] = w.q[block][n], dA[n] = w.dA[block][n];
    const vec skip = s.skip ? load(s.skip + channel, width) : vec{};
    for (int k = count - 1; k >= 0; --k) {
        float B_copy[NP], C_copy[NP];
        const float* Bv = states_at<NP>(s.Bm + b * s.B_batch + w.in.token[k] * s.B_token + group * s.B_group, N, B_copy);
        const float* Cv = states_at<NP>(s.Cm + b * s.C_batch + w.in.token[k] * s.C_token + group * s.C_group, N, C_copy);
        const vec dt = w.in.dt[k], dtu = w.in.dtu[k], dy = w.dy[k];
        vec along[2] = {}, ddt[2] = {};
#pragma GCC unroll 16
        for (int n = 0; n < NP; ++n) {
            const vec g = q[n] + dy * Cv[n];
            w.dC[k][n] = FIRST ? w.h[k + 1][n] * dy : w.dC[k][n] + w.h[k + 1][n] * dy;
            w.dB[k][n] = FIRST ? g * dtu : w.dB[k][n] + g * dtu;
            along[n % 2] += g * Bv[n];
            q[n] = g * w.decay[k][n];
            const vec through = q[n] * w.h[k][n];
            ddt[n % 2] += through * A[n];
            dA[n] += through * dt;
        }
        w.du[k] = along[0] + along[1];
        w.ddt[k] = ddt[0] + ddt[1];
    }
    for (int n = 0; n < NP; ++n) w.q[block][n] = q[n], w.dA[block][n] = dA[n];
    for (int k = 0; k < count; ++k) {
        const int64_t at = (b * L + w.in.token[k]) * s.channels + channel;
        vec ddt = w.ddt[k] + w.in.u[k] * w.du[k];
        if (s.softplus) ddt *= sigmoid(w.in.raw[k]);
        store(s.grad_u + at, w.in.dt[k] * w.du[k] + skip * w.dy[k], width);
        store(s.grad_delta + at, ddt, width);
        w.dskip[block] += w.dy[k] * w.in.u[k];
        w.dbias[block] += ddt;
    }
}

template <int NP>
void backward_task(const Scan& s, const Task& task, Partial& partial, float* part_B, float* part_C) {
    const int64_t N = s.states, L = s.length, chunks = (L + CHUNK - 1) / CHUNK;
    const int blocks = int((task.end - task.channel + LANES - 1) / LANES);
    Work<NP>* w = new Work<NP>;
    for (int k = 0; k < blocks; ++k) {
        w->dskip[k] = w->dbias[k] = vec{};
        for (int n = 0; n < NP; ++n) w->dA[k][n] = vec{};
    }
    auto channel_of = [&](int k) { return task.channel + k * LANES; };
    auto width_of = [&](int k) { const int64_t left = task.end - channel_of(k); return int(left < LANES ? left : LANES); };
    bool negative[BLOCKS_PER_TASK];
    for (int k = 0; k < blocks; ++k) negative[k] = decays(s, channel_of(k), width_of(k));
    for (int64_t b = task.first_row; b < task.end_row; ++b) {
        for (int k = 0; k < blocks; ++k) {
            if (s.grad_last) gather<NP>(s.grad_last + (b * s.channels + channel_of(k)) * N, N, width_of(k), w->q[k]);
            else for (int n = 0; n < NP; ++n) w->q[k][n] = vec{};
        }
        for (int64_t c = chunks - 1; c >= 0; --c) {
            const int64_t first = c * CHUNK;
            const int count = int(L - first < CHUNK ? L - first : CHUNK);
            for (int k = 0; k < blocks; ++k) {
                if (negative[k]) recompute<NP, true>(s, *w, b, task.group, channel_of(k), width_of(k), first, count);
                else recompute<NP, false>(s, *w, b, task.group, channel_of(k), width_of(k), first, count);
                if (k) reverse<NP, false>(s, *w, k, b, task.group, channel_of(k), width_of(k), first, count);
                else reverse<NP, true>(s, *w, k, b, task.group, channel_of(k), width_of(k), first, count);
            }
            for (int k = 0; k < count; ++k) {
                const int64_t at = ((b * L + token_at(s, task.group, first + k)) * s.groups + task.group) * N;
                for (int64_t n = 0; n < N; ++n) {
                    part_B[at + n] = sum(w->dB[k][n]);
                    part_C[at + n] = sum(w->dC[k][n]);
                }
            }
        }
        if (s.grad_start)
            for (int k = 0; k < blocks; ++k) scatter<NP>(s.grad_start + (b * s.channels + channel_of(k)) * N, N, width_of(k), w->q[k]);
    }
    partial.A.resize((task.end - task.channel) * N);
    partial.skip.resize(task.end - task.channel);
    partial.bias.resize(task.end - task.channel);
    for (int k = 0; k < blocks; ++k) {
        scatter<NP>(partial.A.data() + k * LANES * N, N, width_of(k), w->dA[k]);
        store(partial.skip.data() + k * LANES, w->dskip[k], width_of(k));
        store(partial.bias.data() + k * LANES, w->dbias[k], width_of(k));
    }
    delete w;
}

template <int NP>
void run_forward(const Scan& s) {
    const Plan p = plan(s);
#pragma omp parallel for schedule(dynamic) num_threads(s.threads)
    for (int64_t i = 0; i < (int64_t)p.tasks.size(); ++i) {
        forward_task<NP>(s, p.tasks[i]);
    }
}

template <int NP>
void run_backward(const Scan& s) {
    const Plan p = plan(s);
    const int64_t N = s.states, shared = s.batch * s.length * s.groups * N;
    // Split 0 writes straight into the result, the others into parts that are added in order.
    std::vector<float> parts_B((p.splits - 1) * shared), parts_C((p.splits - 1) * shared);
    std::vector<Partial> partials(p.tasks.size());
#pragma omp parallel for schedule(dynamic) num_threads(s.threads)
    for (int64_t i = 0; i < (int64_t)p.tasks.size(); ++i) {
        const int64_t split = p.tasks[i].split;
        backward_task<NP>(s, p.tasks[i], partials[i], split ? parts_B.data() + (split - 1) * shared : s.grad_B,
                          split ? parts_C.data() + (split - 1) * shared : s.grad_C);
    }
#pragma omp parallel for num_threads(s.threads)
    for (int64_t i = 0; i < shared; ++i)
        for (int64_t k = 0; k < p.splits - 1; ++k) {
            s.grad_B[i] += parts_B[k * shared + i];
            s.grad_C[i] += parts_C[k * shared + i];
        }
    std::memset(s.grad_A, 0, sizeof(float) * s.channels * N);
    if (s.grad_skip) std::memset(s.grad_skip, 0, sizeof(float) * s.channels);
    if (s.grad_bias) std::memset(s.grad_bias, 0, sizeof(float) * s.channels);
    for (size_t i = 0; i < p.tasks.size(); ++i) {
        const Task& task = p.tasks[i];
        for (int64_t c = task.channel; c < task.end; ++c) {
            for (int64_t n = 0; n < N; ++n) s.grad_A[c * N + n] += partials[i].A[(c - task.channel) * N + n];
            if (s.grad_skip) s.grad_skip[c] += partials[i].skip[c - task.channel];
            if (s.grad_bias) s.grad_bias[c] += partials[i].bias[c - task.channel];
        }
    }
}

constexpr int MAX_TAPS = 8;

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

// One channel block of one row: the last taps live in registers, newest first.
struct Taps {
    vec weight[MAX_TAPS];  // weight[j] belongs to the input j positions back
    vec bias;
    int count;
};

inline Taps load_taps(const Conv& c, int64_t channel, int width) {
    Taps t{};
    t.count = int(c.taps);
    for (int lane = 0; lane < width; ++lane)
        for (int j = 0; j < t.count; ++j) t.weight[j][lane] = c.weight[(channel + lane) * c.taps + c.taps - 1 - j];
    if (c.bias) t.bias = load(c.bias + channel, width);
    return t;
}

inline int64_t conv_token(const Conv& c, int64_t p) { return c.tokens ? c.tokens[p] : p; }

inline bool begins(const Conv& c, int64_t b, int64_t p) { return c.keep && !c.keep[b * c.length + p]; }

void conv_forward_block(const Conv& c, int64_t b, int64_t channel, int width) {
    const Taps taps = load_taps(c, channel, width);
    vec past[MAX_TAPS] = {};
    for (int64_t p = 0; p < c.length; ++p) {
        if (begins(c, b, p)) for (int j = 0; j < taps.count; ++j) past[j] = vec{};
        const int64_t t = conv_token(c, p);
        for (int j = taps.count - 1; j > 0; --j) past[j] = past[j - 1];
        past[0] = load(c.x + b * c.x_batch + t * c.x_token + channel, width);
        vec y = taps.bias;
        for (int j = 0; j < taps.count; ++j) y += taps.weight[j] * past[j];
        if (c.silu) y *= sigmoid(y);
        store(c.y + (b * c.length + t) * c.channels + channel, y, width);
    }
}

// Adds to grad_weight (K vectors, by distance back) and grad_bias.
void conv_backward_block(const Conv& c, int64_t b, int64_t channel, int width, vec* grad_weight, vec& grad_bias) {
    const Taps taps = load_taps(c, channel, width);
    vec ahead[MAX_TAPS] = {};  // gradients of the pre-activations j positions ahead
    for (int64_t p = c.length - 1; p >= 0; --p) {
        if (p + 1 < c.length && begins(c, b, p + 1)) for (int j = 0; j < taps.count; ++j) ahead[j] = vec{};
        vec x[MAX_TAPS] = {};
        vec pre = taps.bias;
        for (int j = 0; j < taps.count && p - j >= 0; ++j) {
            x[j] = load(c.x + b * c.x_batch + conv_token(c, p - j) * c.x_token + channel, width);
            pre += taps.weight[j] * x[j];
            if (begins(c, b, p - j)) break;
        }
        const int64_t at = (b * c.length + conv_token(c, p)) * c.channels + channel;
        vec g = load(c.grad_y + at, width);
        if (c.silu) {
            const vec gate = sigmoid(pre);
            g *= gate * (1.0f + pre * (1.0f - gate));
        }
        for (int j = taps.count - 1; j > 0; --j) ahead[j] = ahead[j - 1];
        ahead[0] = g;
        vec grad_x = {};
        for (int j = 0; j < taps.count; ++j) {
            grad_x += taps.weight[j] * ahead[j];
            grad_weight[j] += g * x[j];
        }
        grad_bias += g;
        store(c.grad_x + at, grad_x, width);
    }
}

template <class Body>
void each_conv_task(const Conv& c, int64_t tasks_of_rows, int64_t rows, Body body) {
    const int64_t blocks = (c.channels + LANES - 1) / LANES;
#pragma omp parallel for schedule(dynamic) num_threads(c.threads)
    for (int64_t i = 0; i < tasks_of_rows * blocks; ++i) {
        const int64_t first = (i / blocks) * rows, end = first + rows < c.batch ? first + rows : c.batch;
        const int64_t channel = (i % blocks) * LANES;
        const int width = int(c.channels - channel < LANES ? c.channels - channel : LANES);
        body(i, first, end, channel, width);
    }
}

}  // namespace

extern "C" {

int vivim_scan_max_states() { return 64; }
int vivim_scan_chunk() { return CHUNK; }
int vivim_scan_struct_bytes() { return int(sizeof(Scan)); }
int vivim_conv_struct_bytes() { return int(sizeof(Conv)); }
int vivim_conv_max_taps() { return MAX_TAPS; }

// The least the scan can cost: per position and sixteen channels, N times one exp2 and two fused multiply-adds with the operands in
// registers, and nothing else. For benchmarks; returns a number that depends on all of it.
float vivim_scan_floor(int64_t positions) {
    constexpr int N = 16;
    vec A[N], h[N], y[4] = {};
    for (int n = 0; n < N; ++n) A[n] = splat(-0.01f * (n + 1)), h[n] = vec{};
    vec dt = splat(0.1f);
    for (int64_t p = 0; p < positions; ++p) {
#pragma GCC unroll 16
        for (int n = 0; n < N; ++n) {
            h[n] = exp2_negative(dt * A[n]) * h[n] + dt;
            y[n % 4] += h[n] * 0.5f;
        }
        dt = dt * 1.0000001f;
    }
    return sum(y[0] + y[1] + y[2] + y[3]);
}

// 0: done; 1: more taps than supported.
int vivim_conv_forward(const Conv* c) {
    if (c->taps > MAX_TAPS) return 1;
    each_conv_task(*c, c->batch, 1, [&](int64_t, int64_t first, int64_t, int64_t channel, int width) {
        conv_forward_block(*c, first, channel, width);
    });
    return 0;
}

int vivim_conv_backward(const Conv* c) {
    if (c->taps > MAX_TAPS) return 1;
    const int64_t rows = c->batch < BATCH_TASKS ? 1 : (c->batch + BATCH_TASKS - 1) / BATCH_TASKS;
    const int64_t row_tasks = (c->batch + rows - 1) / rows, blocks = (c->channels + LANES - 1) / LANES;
    std::vector<vec> weights(row_tasks * blocks * MAX_TAPS), biases(row_tasks * blocks);
    each_conv_task(*c, row_tasks, rows, [&](int64_t i, int64_t first, int64_t end, int64_t channel, int width) {
        for (int64_t b = first; b < end; ++b) conv_backward_block(*c, b, channel, width, &weights[i * MAX_TAPS], biases[i]);
    });
    for (int64_t block = 0; block < blocks; ++block)
        for (int lane = 0; lane < LANES && block * LANES + lane < c->channels; ++lane) {
            const int64_t channel = block * LANES + lane;
            float bias = 0.0f, weight[MAX_TAPS] = {};
            for (int64_t r = 0; r < row_tasks; ++r) {
                bias += biases[r * blocks + block][lane];
                for (int j = 0; j < c->taps; ++j) weight[j] += weights[(r * blocks + block) * MAX_TAPS + j][lane];
            }
            if (c->grad_bias) c->grad_bias[channel] = bias;
            for (int j = 0; j < c->taps; ++j) c->grad_weight[channel * c->taps + c->taps - 1 - j] = weight[j];
        }
    return 0;
}

// 0: done; 1: more states than supported.
int vivim_scan_forward(const Scan* s) {
    if (s->states <= 4) run_forward<4>(*s);
    else if (s->states <= 8) run_forward<8>(*s);
    else if (s->states <= 16) run_forward<16>(*s);
    else if (s->states <= 32) run_forward<32>(*s);
    else if (s->states <= 64) run_forward<64>(*s);
    else return 1;
    return 0;
}

int vivim_scan_backward(const Scan* s) {
    if (s->states <= 4) run_backward<4>(*s);
    else if (s->states <= 8) run_backward<8>(*s);
    else if (s->states <= 16) run_backward<16>(*s);
    else if (s->states <= 32) run_backward<32>(*s);
    else if (s->states <= 64) run_backward<64>(*s);
    else return 1;
    return 0;
}

}  // extern "C"
