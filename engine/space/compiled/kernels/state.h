/* One state of a cell and all edges that leave it, forward and backward.
 *
 * Stage 1 reads the state: four depthwise convolutions per edge (separable 3x3 and 5x5, dilated 3x3 and 5x5), each followed by
 * its 1x1 convolution and BatchNorm. Stage 2 is the second half of the separable convolutions. The last BatchNorms, the softmaxed
 * alphas and the sum over all primitives, including both pools, are one weighted sum with one constant.
 *
 * Each edge is computed to its end before the next one begins, so that its maps are still in a cache when they are read again.
 *
 * Of all maps, only the outputs of convolutions, before BatchNorm, are kept for the backward pass. The values between a depthwise
 * and its 1x1 convolution are recomputed when a weight gradient needs them, which costs less than writing and reading them. The
 * pools are recomputed as well, which saves memory: they are a seventh of all values, but a fiftieth of the work.
 */
#ifndef RAMPART_STATE_H
#define RAMPART_STATE_H

#include "depthwise.h"
#include "pointwise.h"
#include "pools.h"
#include "statistics.h"

#define MOST_EDGES 4
#define KINDS 4     /* of stage 1: separable 3x3, separable 5x5, dilated 3x3, dilated 5x5 */
#define SEPARABLE 2 /* the first two kinds continue in stage 2 */
#define PRIMITIVES 7 /* columns of the softmaxed alphas: max pool, average pool, skip, then the four kinds */
#define SKIP 2
#define FIRST_KIND 3

static const long SIZES[KINDS] = {3, 5, 3, 5}, DILATIONS[KINDS] = {1, 1, 2, 2};

/* The maps of an edge, outputs of convolutions before BatchNorm: stage 1 of each kind, stage 2 of the separable kinds, and the
 * reduction (stride 2 only). */
#define SECOND KINDS
#define REDUCED (KINDS + SEPARABLE)
static const long SUMMED[PRIMITIVES] = {-1, -1, REDUCED, SECOND, SECOND + 1, 2, 3}; /* each primitive's map in the sum of the edge */

/* Weights of one state, or their gradients, in the order of the flat vector (engine/space/layout.py). */
typedef struct {
    REAL *depthwise[KINDS];  /* [m, c, size, size] */
    REAL *pointwise;         /* [KINDS, m, c, c] */
    REAL *second[SEPARABLE]; /* [m, c, size, size] */
    REAL *second_pointwise;  /* [SEPARABLE, m, c, c] */
    REAL *reduce;            /* [2, m, c / 2, c], stride 2 only */
} Weights;

/* What the forward pass of an edge keeps for its backward pass. */
typedef struct {
    REAL *maps;         /* [REDUCED + 1, c, out], or without the last at stride 1 */
    REAL *mean, *scale; /* [REDUCED + 1, c]: mean and 1 / standard deviation of each */
} Saved;

typedef struct {
    long c, b, h, w, stride, m;
    long n;   /* numbers in a row of the output: width * batch */
    long out; /* numbers in a map of the output */
    const REAL *rows; /* [m, PRIMITIVES] softmaxed alphas */
    Weights weights;
    Saved saved[MOST_EDGES];
    REAL *mean_pools, *scale_pools; /* [2, c] */
    /* Valid only during a pass: */
    REAL *pools;      /* [2, c, out] before BatchNorm */
    INTEGER *largest; /* [c, out]: index of the maximum in its window */
} State;

/* Sets the pointers to a state's weights in the flat vector, which begin at `at`. Returns the beginning of the next state's. */
static REAL *place_weights(Weights *w, REAL *at, long m, long c, long stride) {
    for (int k = 0; k < KINDS; k++) w->depthwise[k] = at, at += m * c * SIZES[k] * SIZES[k];
    w->pointwise = at, at += KINDS * m * c * c;
    for (int k = 0; k < SEPARABLE; k++) w->second[k] = at, at += m * c * SIZES[k] * SIZES[k];
    w->second_pointwise = at, at += SEPARABLE * m * c * c;
    w->reduce = at;
    return stride == 2 ? at + m * c * c : at;
}

INLINE long maps_of(const State *s) { return s->stride == 2 ? REDUCED + 1 : REDUCED; }

static void place_saved(Arena *arena, State *s) {
    for (long e = 0; e < s->m; e++) {
        Saved *v = &s->saved[e];
        v->maps = reals(arena, maps_of(s) * s->c * s->out);
        v->mean = reals(arena, maps_of(s) * s->c), v->scale = reals(arena, maps_of(s) * s->c);
    }
    s->mean_pools = reals(arena, 2 * s->c), s->scale_pools = reals(arena, 2 * s->c);
}

/* Adds row h of a map of edge e to the map's sums. */
static void sum_row(const State *s, long e, long map, long h, Moments *sums) {
    const REAL *row = s->saved[e].maps + map * s->c * s->out + h * s->n;
    for (long c = 0; c < s->c; c++) moments_add(sums, map * s->c + c, row + c * s->out, s->n, h == 0);
}

/* Finishes the statistics of `count` maps of edge e from `first` on. running: the maps' slice [2, count, m, c] of the flat
 * buffers, or NULL. */
static void finish(const State *s, long e, const Moments *sums, long first, long count, REAL *running) {
    for (long i = 0; i < count; i++) {
        const long at = (first + i) * s->c;
        moments_finish(sums, at, s->c, s->out, s->saved[e].mean + at, s->saved[e].scale + at,
                       running ? running + (i * s->m + e) * s->c : NULL, count * s->m * s->c);
    }
}

INLINE Matrix block(const REAL *w, long c) { return (Matrix){w, c, 1}; }
INLINE Matrix transposed(const REAL *w, long c) { return (Matrix){w, 1, c}; }

static void reduce_row(State *s, long e, const Ring *ring, long h) {
    const long half = s->c / 2;
    REAL *to = s->saved[e].maps + REDUCED * s->c * s->out + h * s->n;
    for (long q = 0; q < 2; q++)
        pointwise(to + q * half * s->out, s->out, block(s->weights.reduce + (q * s->m + e) * half * s->c, s->c), half,
                  slot(ring, 2 * h + q) + column(ring, q), ring->length, s->c, s->n);
}

/* Returns a ring of all rows of the state, after ReLU. All kernels can read it. Its memory comes from `kept`. */
static Ring rectified(const State *s, const REAL *input, Arena *kept) {
    Ring r = ring(kept, s->c, s->h, s->w, s->b, s->stride, s->stride == 1 ? 4 : 2, s->h);
    while (!only_counts(kept) && r.filled < s->h) fill_positive(&r, input, NULL, NULL);
    return r;
}

/* Stage 1 of edge e, row by row: for each kind, the depthwise convolution, then the 1x1 convolution. r: the rectified state. */
static void stage1(State *s, long e, const Ring *r, Moments *sums, Arena arena, REAL **running) {
    REAL *z = reals(&arena, s->c * s->n);
    if (only_counts(&arena)) return;
    for (long h = 0; h < s->h / s->stride; h++) {
        for (int k = 0; k < KINDS; k++) {
            const long at = k * s->m + e;
            const Kernel kernel = {SIZES[k], DILATIONS[k], s->stride};
            depthwise(z, s->n, r, h, kernel, s->weights.depthwise[k] + e * s->c * SIZES[k] * SIZES[k], s->n);
            pointwise(s->saved[e].maps + k * s->c * s->out + h * s->n, s->out, block(s->weights.pointwise + at * s->c * s->c, s->c),
                      s->c, z, s->n, s->c, s->n);
            sum_row(s, e, k, h, sums);
        }
        if (s->stride == 1) continue;
        reduce_row(s, e, r, h);
        sum_row(s, e, REDUCED, h, sums);
    }
    finish(s, e, sums, 0, SEPARABLE, running[1]);
    finish(s, e, sums, SEPARABLE, KINDS - SEPARABLE, running[3]);
    if (s->stride == 2) finish(s, e, sums, REDUCED, 1, running[4]);
}

static void stage2(State *s, long e, Moments *sums, Arena arena, REAL *running) {
    const long height = s->out / s->n;
    const Saved *v = &s->saved[e];
    REAL *z = reals(&arena, s->c * s->n);
    for (int k = 0; k < SEPARABLE; k++) {
        const Kernel kernel = {SIZES[k], 1, 1};
        const long at = k * s->m + e;
        Arena own = arena;
        Ring u = ring(&own, s->c, height, s->n / s->b, s->b, 1, reach(kernel), reach(kernel));
        if (only_counts(&arena)) continue;
        for (long h = 0; h < height; h++) {
            while (u.filled < height && u.filled <= h + reach(kernel))
                fill_positive(&u, v->maps + k * s->c * s->out, v->mean + k * s->c, v->scale + k * s->c);
            depthwise(z, s->n, &u, h, kernel, s->weights.second[k] + e * s->c * SIZES[k] * SIZES[k], s->n);
            pointwise(v->maps + (SECOND + k) * s->c * s->out + h * s->n, s->out,
                      block(s->weights.second_pointwise + at * s->c * s->c, s->c), s->c, z, s->n, s->c, s->n);
            sum_row(s, e, SECOND + k, h, sums);
        }
    }
    if (!only_counts(&arena)) finish(s, e, sums, SECOND, SEPARABLE, running);
}

/* Copies x [h, w * b] with the even columns of each row first, as the pools of stride 2 need it. */
static void split_columns(REAL *to, const REAL *x, const State *s) {
    for (long h = 0; h < s->h; h++)
        for (long w = 0; w < s->w; w++)
            memcpy(to + (h * s->w + w % 2 * (s->w / 2) + w / 2) * s->b, x + (h * s->w + w) * s->b, (size_t)s->b * sizeof(REAL));
}

/* Computes both pools of the state. Their memory comes from `kept` and stays allocated after the return. */
static void pools(State *s, const REAL *input, Arena *kept) {
    const Map map = {s->h, s->w, s->b, s->stride};
    const long in = s->h * s->w * s->b;
    s->pools = reals(kept, 2 * s->c * s->out);
    s->largest = take(kept, (size_t)(s->c * s->out) * sizeof(INTEGER));
    Arena arena = *kept;
    REAL *split = s->stride == 2 ? reals(&arena, in) : NULL;
    if (only_counts(&arena)) {
        pools_forward(NULL, NULL, NULL, NULL, map, arena);
        return;
    }
    for (long c = 0; c < s->c; c++) {
        const REAL *x = input + c * in;
        if (split) split_columns(split, x, s);
        pools_forward(s->pools + c * s->out, s->pools + (s->c + c) * s->out, s->largest + c * s->out, split ? split : x, map, arena);
    }
}

static void pools_statistics(State *s, Arena arena, REAL *running) {
    Moments moments_pools = moments(&arena, 2 * s->c);
    if (only_counts(&arena)) return;
    for (long c = 0; c < 2 * s->c; c++) moments_add(&moments_pools, c, s->pools + c * s->out, s->out, 1);
    moments_finish(&moments_pools, 0, 2 * s->c, s->out, s->mean_pools, s->scale_pools, running, 2 * s->c);
}

/* The seven values that an edge sums in one channel, before BatchNorm, with their means and scales. */
typedef struct {
    const REAL *value[PRIMITIVES];
    REAL mean[PRIMITIVES], scale[PRIMITIVES];
} Parts;

static Parts parts_of(const State *s, const REAL *input, long e, long c) {
    const Saved *v = &s->saved[e];
    Parts p;
    for (int k = 0; k < 2; k++) {
        const long at = k * s->c + c;
        p.value[k] = s->pools + at * s->out, p.mean[k] = s->mean_pools[at], p.scale[k] = s->scale_pools[at];
    }
    if (s->stride == 1) p.value[SKIP] = input + c * s->out, p.mean[SKIP] = 0, p.scale[SKIP] = 1;
    for (int i = s->stride == 1 ? FIRST_KIND : SKIP; i < PRIMITIVES; i++) {
        const long at = SUMMED[i] * s->c + c;
        p.value[i] = v->maps + at * s->out, p.mean[i] = v->mean[at], p.scale[i] = v->scale[at];
    }
    return p;
}

/* Sets node [c, out] (if `first`) to the sum over the primitives of edge e, or adds this sum to it. */
static void combine(const State *s, long e, const REAL *input, REAL *node, const int first) {
    for (long c = 0; c < s->c; c++) {
        const Parts p = parts_of(s, input, e, c);
        REAL k[PRIMITIVES], *to = node + c * s->out;
        double constant = 0;
        for (int i = 0; i < PRIMITIVES; i++) {
            k[i] = s->rows[e * PRIMITIVES + i] * p.scale[i];
            constant -= (double)k[i] * p.mean[i];
        }
        long i = 0;
        for (; i + LANES <= s->out; i += LANES) {
            vec x = splat((REAL)constant);
            if (!first) x += load(to + i);
#pragma GCC unroll 8
            for (int j = 0; j < PRIMITIVES; j++) x += k[j] * load(p.value[j] + i);
            store(to + i, x);
        }
        for (; i < s->out; i++) {
            REAL x = first ? (REAL)constant : to[i] + (REAL)constant;
            for (int j = 0; j < PRIMITIVES; j++) x += k[j] * p.value[j][i];
            to[i] = x;
        }
    }
}

/* running: the state's slices of the flat buffers for pools, first, separable, dilated and reduce, or five NULLs. */
static void state_forward(State *s, const REAL *input, REAL *const *nodes, int first, Arena arena, REAL **running) {
    pools(s, input, &arena);
    pools_statistics(s, arena, running[0]);
    const Ring r = rectified(s, input, &arena);
    for (long e = 0; e < s->m; e++) {
        Arena own = arena;
        Moments sums = moments(&own, maps_of(s) * s->c);
        stage1(s, e, &r, &sums, own, running);
        stage2(s, e, &sums, own, running[2]);
        if (!only_counts(&arena)) combine(s, e, input, nodes[e], first);
    }
}

/* The gradients that a backward pass computes. Weights are computed only together with the input. */
typedef struct {
    int input, weights, rows;
} Wanted;

/* Sums that the backward pass of each edge's last BatchNorms needs; per [m, c]. */
typedef struct {
    double *sum_g;                   /* sum of g */
    double *sum_product[PRIMITIVES]; /* sum of g (value - mean); of the pools and a plain skip only for gradients of the alphas */
} Sums;

static Sums place_sums(Arena *arena, const State *s) {
    const size_t bytes = (size_t)(s->m * s->c) * sizeof(double);
    Sums sums = {take(arena, bytes), {0}};
    for (int j = 0; j < PRIMITIVES; j++) sums.sum_product[j] = take(arena, bytes);
    return sums;
}

/* Computes the sums of g (value - mean) for the values from `first` on, and the sum of g, in one pass over the map. */
INLINE void products_from(const int first, double *sum_products, double *sum_g, const REAL *g, const Parts *p, long n) {
    vec s[PRIMITIVES + 1];
#pragma GCC unroll 8
    for (int j = first; j <= PRIMITIVES; j++) s[j] = (vec){0};
    long i = 0;
    for (; i + LANES <= n; i += LANES) {
        const vec x = load(g + i);
        s[PRIMITIVES] += x;
#pragma GCC unroll 8
        for (int j = first; j < PRIMITIVES; j++) s[j] += x * (load(p->value[j] + i) - p->mean[j]);
    }
    *sum_g = (double)sum(s[PRIMITIVES]);
    for (int j = first; j < PRIMITIVES; j++) sum_products[j] = (double)sum(s[j]);
    for (; i < n; i++) {
        *sum_g += g[i];
        for (int j = first; j < PRIMITIVES; j++) sum_products[j] += g[i] * (p->value[j][i] - p->mean[j]);
    }
}

static void products(int first, double *sum_products, double *sum_g, const REAL *g, const Parts *p, long n) {
    if (first == 0) products_from(0, sum_products, sum_g, g, p, n);
    else if (first == SKIP) products_from(SKIP, sum_products, sum_g, g, p, n);
    else products_from(FIRST_KIND, sum_products, sum_g, g, p, n);
}

/* Computes the sums of edge e from the gradient g [c, out] of its node. Also computes the gradients of the edge's alphas from them
 * and the scales, unless g_rows [m, PRIMITIVES] is NULL. */
static void sum_products(const State *s, long e, const REAL *input, const REAL *g, const Sums *sums, REAL *g_rows) {
    const int first = g_rows ? 0 : s->stride == 2 ? SKIP : FIRST_KIND;
    double totals[PRIMITIVES] = {0};
    for (long c = 0; c < s->c; c++) {
        const Parts p = parts_of(s, input, e, c);
        double found[PRIMITIVES];
        products(first, found, sums->sum_g + e * s->c + c, g + c * s->out, &p, s->out);
        for (int j = first; j < PRIMITIVES; j++) {
            sums->sum_product[j][e * s->c + c] = found[j];
            totals[j] += found[j] * p.scale[j];
        }
    }
    if (g_rows) for (int j = 0; j < PRIMITIVES; j++) g_rows[e * PRIMITIVES + j] = (REAL)totals[j];
}

/* Computes dy [c, n] for row h, the gradient with respect to each channel's BatchNorm input. Channels of dy are `stride` apart. */
INLINE void backward_rows(REAL *dy, long stride, const REAL *g, const REAL *y, const Backward *k, long channels, long plane, long h,
                          long n) {
    for (long c = 0; c < channels; c++) backward_row(dy + c * stride, g + c * plane + h * n, y + c * plane + h * n, k[c], n);
}

/* Backward pass of one depthwise convolution with its 1x1 convolution and BatchNorm, row by row: `g` [c, out] passes through
 * BatchNorm (coefficients k, values y) and the 1x1 convolution into a ring of dz; each input row then sums its taps of dz.
 *
 * The input is read only for weight gradients. It is in the ring `in`, which holds all rows, or else, at stride 1, in `maps` [c, h * w * b] before
 * BatchNorm (mean, scale) and ReLU. The result is written to `into` [c, h * w * b] or, if `adds`, added to it, with columns split
 * by parity at stride 2. */
typedef struct {
    long c, b, h, w, n, out;
    Kernel kernel;
    const REAL *g, *y;
    const Backward *k;
    const REAL *depthwise, *pointwise; /* [c, size, size], [c, c] */
    REAL *g_depthwise, *g_pointwise;   /* NULL: not wanted */
    Ring *in;
    const REAL *maps, *mean, *scale;
    REAL *into;
    int adds;
} Branch;

/* Rows that are collected before the gradient of a 1x1 convolution is computed from them, because short rows would spend most of
 * the time on loading and storing partial sums. */
INLINE long rows_at_once(long n, long height) {
    const long rows = (255 + n) / n;
    return rows < height ? rows : height;
}

static void branch_backward(const Branch *x, Arena arena) {
    const Kernel kernel = x->kernel;
    const long height = x->out / x->n, c_in_row = x->w * x->b, up = reach(kernel);
    const long entries = kernel.size * kernel.size, block = x->g_pointwise ? rows_at_once(x->n, height) : 1, stride = block * x->n;
    REAL *dy = reals(&arena, x->c * stride), *z = reals(&arena, x->c * stride);
    Ring dz = ring(&arena, x->c, height, x->n / x->b, x->b, 1, up, up), own = {0}, *in = x->in ? x->in : &own;
    vec *pointwise_sums = NULL, *depthwise_sums = NULL; /* gradients as partial sums */
    if (x->g_pointwise) {
        if (!x->in) own = ring(&arena, x->c, x->h, x->w, x->b, 1, up, up);
        pointwise_sums = zeros(&arena, x->c * x->c);
        depthwise_sums = zeros(&arena, x->c * entries);
    }
    if (only_counts(&arena)) return;
    for (long row = 0; row < x->h; row++) {
        for (; dz.filled < height && dz.filled * kernel.stride <= row + up; dz.filled++) {
            const long h = dz.filled, at = h % block * x->n;
            REAL *to = slot(&dz, h) + column(&dz, 0);
            backward_rows(dy + at, stride, x->g, x->y, x->k, x->c, x->out, h, x->n);
            pointwise(to, dz.length, transposed(x->pointwise, x->c), x->c, dy + at, stride, x->c, x->n);
            if (!x->g_pointwise) continue;
            while (in->filled < x->h && in->filled <= h + up) fill_positive(in, x->maps, x->mean, x->scale);
            depthwise(z + at, stride, in, h, kernel, x->depthwise, x->n);
            depthwise_gradient(depthwise_sums, to, dz.length, in, h, kernel, x->n);
            if (h % block == block - 1 || h == height - 1)
                outer_add(pointwise_sums, dy, stride, x->c, z, stride, x->c, at + x->n);
        }
        depthwise_transposed(x->into + row * c_in_row, x->h * c_in_row, &dz, row, kernel, x->depthwise, x->n, x->adds);
    }
    if (!x->g_pointwise) return;
    add_up(x->g_pointwise, pointwise_sums, x->c * x->c);
    add_up(x->g_depthwise, depthwise_sums, x->c * entries);
}

/* Backward through the ReLU before stage 2: sets t to 0 where BatchNorm's output was at most 0, and computes the coefficients k
 * of that BatchNorm. */
static void relu_backward(Backward *k, REAL *t, const REAL *y, const REAL *mean, const REAL *scale, long channels, long out) {
    for (long c = 0; c < channels; c++) {
        REAL *at = t + c * out;
        const REAL *value = y + c * out;
        vec sum_t = {0}, sum_product = {0};
        long i = 0;
        for (; i + LANES <= out; i += LANES) {
            const vec d = load(value + i) - mean[c], x = where(~(d <= (vec){0}), load(at + i));
            store(at + i, x);
            sum_t += x;
            sum_product += x * d;
        }
        double s = sum(sum_t), q = sum(sum_product);
        for (; i < out; i++) {
            const REAL d = value[i] - mean[c];
            if (d <= 0) at[i] = 0;
            s += at[i], q += at[i] * d;
        }
        k[c] = backward_of(1, mean[c], scale[c], s, q, out);
    }
}

/* Backward pass of both stages of one edge and kind; adds the state's gradient to gx. r: the rectified state, for weight gradients. */
static void kind_backward(const State *s, Ring *r, const REAL *g, const Sums *sums, int kind, long e, Weights *grads,
                          REAL *gx, Arena arena) {
    const Saved *v = &s->saved[e];
    const long at = kind * s->m + e, c = s->c, plane = c * s->out, square = c * c, taps = SIZES[kind] * SIZES[kind];
    const long last = SUMMED[FIRST_KIND + kind];
    const int second = kind < SEPARABLE;
    const REAL *mean = v->mean + last * c, *scale = v->scale + last * c, *y = v->maps + kind * plane;
    Backward *k = take(&arena, (size_t)c * sizeof(Backward));
    for (long i = 0; k && i < c; i++)
        k[i] = backward_of(s->rows[e * PRIMITIVES + FIRST_KIND + kind], mean[i], scale[i], sums->sum_g[e * c + i],
                           sums->sum_product[FIRST_KIND + kind][e * c + i], s->out);
    if (second) {
        REAL *t = reals(&arena, c * s->out);
        const Branch branch = {
            c, s->b, s->out / s->n, s->n / s->b, s->n, s->out, {SIZES[kind], 1, 1}, g, v->maps + last * plane, k,
            s->weights.second[kind] + e * c * taps, s->weights.second_pointwise + at * square,
            grads ? grads->second[kind] + e * c * taps : NULL, grads ? grads->second_pointwise + at * square : NULL,
            NULL, y, v->mean + kind * c, v->scale + kind * c, t, 0};
        branch_backward(&branch, arena);
        if (t) relu_backward(k, t, y, v->mean + kind * c, v->scale + kind * c, c, s->out);
        g = t;
    }
    const Branch branch = {
        c, s->b, s->h, s->w, s->n, s->out, {SIZES[kind], DILATIONS[kind], s->stride}, g, y, k,
        s->weights.depthwise[kind] + e * c * taps, s->weights.pointwise + at * square,
        grads ? grads->depthwise[kind] + e * c * taps : NULL, grads ? grads->pointwise + at * square : NULL,
        r, NULL, NULL, NULL, gx, 1};
    branch_backward(&branch, arena);
}

/* Backward pass of the factorized reduction of edge e; gx has its columns split by parity. r: as in kind_backward. */
static void reduce_backward(const State *s, const Ring *r, const REAL *g, const Sums *sums, long e, Weights *grads, REAL *gx,
                            Arena arena) {
    const Saved *v = &s->saved[e];
    const long c = s->c, half = c / 2, height = s->out / s->n, plane = s->h * s->w * s->b, at = REDUCED * c;
    Backward *k = take(&arena, (size_t)c * sizeof(Backward));
    REAL *dy = reals(&arena, c * s->n);
    vec *outer = zeros(&arena, c * c);
    if (only_counts(&arena)) return;
    for (long i = 0; i < c; i++)
        k[i] = backward_of(s->rows[e * PRIMITIVES + SKIP], v->mean[at + i], v->scale[at + i],
                           sums->sum_g[e * c + i], sums->sum_product[SKIP][e * c + i], s->out);
    for (long h = 0; h < height; h++) {
        backward_rows(dy, s->n, g, v->maps + at * s->out, k, c, s->out, h, s->n);
        for (long q = 0; q < 2; q++) {
            const Matrix w = transposed(s->weights.reduce + (q * s->m + e) * half * c, c);
            pointwise_add(gx + (2 * h + q) * s->w * s->b + q * s->n, plane, w, c, dy + q * half * s->n, s->n, half, s->n);
            if (grads)
                outer_add(outer + q * half * c, dy + q * half * s->n, s->n, half, slot(r, 2 * h + q) + column(r, q), r->length, c,
                          s->n);
        }
    }
    if (grads)
        for (long q = 0; q < 2; q++) add_up(grads->reduce + (q * s->m + e) * half * c, outer + q * half * c, half * c);
}

/* Reads the gradients g [m] of all edges once. Writes the gradients of both pools' values before BatchNorm to g_pool and, at
 * stride 1, adds the gradient of the skips to `all`. */
static void gather_edges(const State *s, REAL *const *g, const Sums *sums, long c, REAL *const *g_pool, REAL *all) {
    const long at = c * s->out, second = (s->c + c) * s->out;
    const REAL *y[2] = {s->pools + at, s->pools + second}, mean[2] = {s->mean_pools[c], s->mean_pools[s->c + c]};
    vec sum_product[2] = {{0}, {0}};
    long i = 0;
    for (; i + LANES <= s->out; i += LANES) {
        vec d[2] = {{0}, {0}}, skip = s->stride == 1 ? load(all + i) : (vec){0};
        for (long e = 0; e < s->m; e++) {
            const REAL *alpha = s->rows + e * PRIMITIVES;
            const vec x = load(g[e] + at + i);
            d[0] += alpha[0] * x;
            d[1] += alpha[1] * x;
            skip += alpha[SKIP] * x;
        }
        for (int p = 0; p < 2; p++) {
            store(g_pool[p] + i, d[p]);
            sum_product[p] += d[p] * (load(y[p] + i) - mean[p]);
        }
        if (s->stride == 1) store(all + i, skip);
    }
    for (; i < s->out; i++) {
        REAL d[2] = {0, 0};
        for (long e = 0; e < s->m; e++) {
            const REAL *alpha = s->rows + e * PRIMITIVES, x = g[e][at + i];
            d[0] += alpha[0] * x;
            d[1] += alpha[1] * x;
            if (s->stride == 1) all[i] += alpha[SKIP] * x;
        }
        for (int p = 0; p < 2; p++) {
            g_pool[p][i] = d[p];
            sum_product[p][0] += d[p] * (y[p][i] - mean[p]);
        }
    }
    for (int p = 0; p < 2; p++) {
        double sum_g = 0;
        for (long e = 0; e < s->m; e++) sum_g += s->rows[e * PRIMITIVES + p] * sums->sum_g[e * s->c + c];
        const Backward k = backward_of(1, mean[p], s->scale_pools[p * s->c + c], sum_g, sum(sum_product[p]), s->out);
        backward_row(g_pool[p], g_pool[p], y[p], k, s->out);
    }
}

/* Writes the gradient of one channel of the state, through ReLU (gx), skip and pools, to `into` [h * w * b], or adds it. */
static void channel_backward(const State *s, const REAL *x, const REAL *gx, REAL *const *g, const Sums *sums, long c, REAL *into,
                             int add, Arena arena) {
    const long in = s->h * s->w * s->b;
    REAL *g_pool[2] = {reals(&arena, s->out), reals(&arena, s->out)}, *all = reals(&arena, in);
    REAL *split = s->stride == 2 ? reals(&arena, in) : NULL;
    const Map map = {s->h, s->w, s->b, s->stride};
    if (only_counts(&arena)) {
        pools_backward(NULL, NULL, NULL, NULL, map, arena);
        return;
    }
    if (split) split_columns(split, x, s);
    const REAL *value = split ? split : x;
    for (long i = 0; i < in; i++) all[i] = value[i] <= 0 ? 0 : gx[i];
    gather_edges(s, g, sums, c, g_pool, all);
    pools_backward(all, g_pool[0], g_pool[1], s->largest + c * s->out, map, arena);
    if (s->stride == 1) {
        if (add) for (long i = 0; i < in; i++) into[i] += all[i];
        else memcpy(into, all, (size_t)in * sizeof(REAL));
        return;
    }
    for (long h = 0; h < s->h; h++)
        for (long w = 0; w < s->w; w++)
            memcpy(into + (h * s->w + w) * s->b, all + (h * s->w + w % 2 * (s->w / 2) + w / 2) * s->b,
                   (size_t)s->b * sizeof(REAL));
}

/* g[e] [c, out]: gradients of the nodes that the edges lead to. Writes weight gradients and g_rows [m, PRIMITIVES] where wanted.
 * Writes the state's gradient to `into` [c, h * w * b], or adds it (never at stride 2, where the state is a cell's input). */
static void state_backward(State *s, const REAL *input, REAL *const *g, Weights *grads, REAL *g_rows, REAL *into, int add,
                           Wanted wanted, Arena arena) {
    if (!wanted.input && !wanted.rows) return;
    const long plane = s->h * s->w * s->b;
    pools(s, input, &arena);
    const Sums sums = place_sums(&arena, s);
    Ring r = wanted.weights ? rectified(s, input, &arena) : (Ring){0};
    REAL *gx = wanted.input ? zero_reals(&arena, s->c * plane) : NULL;
    for (long e = 0; e < s->m; e++) {
        if (!only_counts(&arena)) sum_products(s, e, input, g[e], &sums, wanted.rows ? g_rows : NULL);
        if (!wanted.input) continue;
        for (int kind = 0; kind < KINDS; kind++)
            kind_backward(s, &r, g[e], &sums, kind, e, wanted.weights ? grads : NULL, gx, arena);
        if (s->stride == 2) reduce_backward(s, &r, g[e], &sums, e, wanted.weights ? grads : NULL, gx, arena);
    }
    if (!wanted.input) return;
    if (only_counts(&arena)) {
        channel_backward(s, input, gx, g, &sums, 0, into, add, arena);
        return;
    }
    for (long c = 0; c < s->c; c++)
        channel_backward(s, input + c * plane, gx + c * plane, g, &sums, c, into + c * plane, add, arena);
}

#endif
