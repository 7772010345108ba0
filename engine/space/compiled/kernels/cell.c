/* A cell of the supernet as two functions, forward and backward, on maps [channels, height, width, batch].
 *
 * Search space: DARTS (Liu, Simonyan and Yang 2018). The order of weights and buffers is that of engine/space/layout.py.
 * Compiled once for float and once for double (-DREAL, -DINTEGER of the same size).
 */
#include "state.h"

#define STATES 5
#define NODES 4
static const long EDGES[STATES] = {4, 4, 3, 2, 1};
static const long FIRST_ROW[STATES] = {0, 4, 8, 11, 13}; /* index of a state's first edge among the 14 rows of alphas */

typedef struct {
    long channels, batch;
    long height, width; /* of states 0 and 1 */
    long reduction;     /* 1 if the cell halves its maps */
    long halved;        /* 1 if the maps of its first input are twice as large and get halved */
    long inputs[2];     /* channels of its inputs */
} Cell;

typedef struct {
    REAL *preprocess[2]; /* [channels, inputs], or [2, channels / 2, inputs] of a halved input */
    Weights states[STATES];
} CellWeights;

typedef struct {
    REAL *h[2];     /* [channels, height * width * batch]: states 0 and 1 */
    REAL *scale[2]; /* [channels] */
} Inputs;

INLINE long positions(const Cell *cell) { return cell->height * cell->width * cell->batch; }

/* Returns pointers to each weight, or to each weight's gradient, in the cell's flat vector. */
static CellWeights place_cell_weights(REAL *at, const Cell *cell) {
    CellWeights w;
    for (int i = 0; i < 2; i++) w.preprocess[i] = at, at += cell->channels * cell->inputs[i];
    for (int i = 0; i < STATES; i++)
        at = place_weights(&w.states[i], at, EDGES[i], cell->channels, cell->reduction && i < 2 ? 2 : 1);
    return w;
}

/* Initialises the states, with their arrays in `saved`. If the base of `saved` is NULL, only counts the memory they need. */
static Inputs place_cell(Arena *saved, State *states, const Cell *cell, const CellWeights *weights, const REAL *rows) {
    Inputs inputs;
    for (int i = 0; i < 2; i++) {
        inputs.h[i] = reals(saved, cell->channels * positions(cell));
        inputs.scale[i] = reals(saved, cell->channels);
    }
    for (int i = 0; i < STATES; i++) {
        const long halving = cell->reduction ? 2 : 1, stride = i < 2 ? halving : 1, size = i < 2 ? 1 : halving;
        State *s = &states[i];
        *s = (State){.c = cell->channels, .b = cell->batch, .h = cell->height / size, .w = cell->width / size, .stride = stride,
                     .m = EDGES[i], .n = cell->width / halving * cell->batch};
        s->out = cell->height / halving * s->n;
        if (weights) s->weights = weights->states[i], s->rows = rows + FIRST_ROW[i] * PRIMITIVES;
        place_saved(saved, s);
    }
    return inputs;
}

/* Returns the number of bytes that the forward pass keeps for the backward pass. */
size_t cell_saved_bytes(const Cell *cell) {
    Arena arena = {NULL, 0, NULL};
    State states[STATES];
    place_cell(&arena, states, cell, NULL, NULL);
    return arena.used;
}

/* to[i] = max(0, x[i]), but NaN stays NaN. */
INLINE void rectify(REAL *to, const REAL *x, long n) {
    long i = 0;
    for (; i + LANES <= n; i += LANES) store(to + i, positive(load(x + i)));
    for (; i < n; i++) to[i] = x[i] <= 0 ? 0 : x[i];
}

/* Backward pass of `rectify`: sets to[i] to 0 where x[i] is at most 0, else to g[i]; or adds this to it. */
INLINE void rectify_backward(REAL *to, const REAL *g, const REAL *x, long n, const int add) {
    long i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec passed = where(~(load(x + i) <= (vec){0}), load(g + i));
        if (add) passed += load(to + i);
        store(to + i, passed);
    }
    for (; i < n; i++) to[i] = (add ? to[i] : 0) + (x[i] <= 0 ? 0 : g[i]);
}

/* Offset of the pixel (h, w) of map i in an input. If the input is halved: of the pixel (2 h + q, 2 w + q). */
INLINE long pixel(const Cell *cell, int halves, long i, long h, long w, long q) {
    if (!halves) return i * positions(cell) + (h * cell->width + w) * cell->batch;
    return 4 * i * positions(cell) + ((2 * h + q) * 2 * cell->width + 2 * w + q) * cell->batch;
}

/* Writes row h of a rectified input [inputs, width * batch]; of a halved input, the pixels of half q. */
static void rectified_row(REAL *to, const REAL *x, const Cell *cell, long inputs, int halves, long h, long q) {
    const long n = cell->width * cell->batch;
    for (long i = 0; i < inputs; i++) {
        if (!halves) rectify(to + i * n, x + pixel(cell, 0, i, h, 0, 0), n);
        else for (long w = 0; w < cell->width; w++)
            rectify(to + i * n + w * cell->batch, x + pixel(cell, 1, i, h, w, q), cell->batch);
    }
}

/* Writes the gradient of a row that `rectified_row` has read, from `row`, the gradient of its result; or adds it. To the gradient of
 * a halved input, it always adds. */
static void rectified_row_backward(REAL *gx, const REAL *row, const REAL *x, const Cell *cell, long inputs, int halves, long h,
                                   long q, int add) {
    const long n = cell->width * cell->batch, b = cell->batch;
    for (long i = 0; i < inputs; i++) {
        const long at = pixel(cell, halves, i, h, 0, q);
        const REAL *g = row + i * n;
        if (halves)
            for (long w = 0; w < cell->width; w++) rectify_backward(gx + at + 2 * w * b, g + w * b, x + at + 2 * w * b, b, 1);
        else if (add) rectify_backward(gx + at, g, x + at, n, 1);
        else rectify_backward(gx + at, g, x + at, n, 0);
    }
}

/* ReLU, 1x1 convolution and BatchNorm of input i; running: means, then variances, or NULL. */
static void preprocess(const Cell *cell, int i, const REAL *x, const REAL *weight, REAL *h, REAL *scale, REAL *running,
                       Arena arena) {
    const long c = cell->channels, in = cell->inputs[i], n = cell->width * cell->batch, plane = positions(cell);
    const int halves = i == 0 && cell->halved;
    Moments moments_h = moments(&arena, c);
    REAL *mean = reals(&arena, c), *row = reals(&arena, in * n);
    if (only_counts(&arena)) return;
    for (long r = 0; r < cell->height; r++) {
        for (long q = 0; q < (halves ? 2 : 1); q++) {
            const long outputs = halves ? c / 2 : c;
            rectified_row(row, x, cell, in, halves, r, q);
            pointwise(h + q * outputs * plane + r * n, plane, (Matrix){weight + q * outputs * in, in, 1}, outputs, row, n, in, n);
        }
        for (long k = 0; k < c; k++) moments_add(&moments_h, k, h + k * plane + r * n, n, r == 0);
    }
    moments_finish(&moments_h, 0, c, plane, mean, scale, running, c);
    for (long k = 0; k < c; k++) {
        REAL *at = h + k * plane;
        long j = 0;
        for (; j + LANES <= plane; j += LANES) store(at + j, (load(at + j) - mean[k]) * scale[k]);
        for (; j < plane; j++) at[j] = (at[j] - mean[k]) * scale[k];
    }
}

/* Backward pass from g [c, positions], the gradient of the normalised h. Writes gx [inputs, ...], or adds to it, and g_weight unless
 * NULL. */
static void preprocess_backward(const Cell *cell, int i, const REAL *g, const REAL *h, const REAL *scale, const REAL *x,
                                const REAL *weight, REAL *gx, int add, REAL *g_weight, Arena arena) {
    const long c = cell->channels, in = cell->inputs[i], n = cell->width * cell->batch, plane = positions(cell);
    const int halves = i == 0 && cell->halved;
    const long outputs = halves ? c / 2 : c;
    Backward *k = take(&arena, (size_t)c * sizeof(Backward));
    REAL *dy = reals(&arena, c * n), *row = reals(&arena, in * n);
    vec *outer = g_weight ? zeros(&arena, c * in) : NULL;
    if (only_counts(&arena)) return;
    for (long j = 0; j < c; j++) {
        const double sum_g = total(g + j * plane, plane), sum_product = product(g + j * plane, h + j * plane, 0, plane);
        /* h is already normalised: dy = scale (g - mean(g) - h mean(g h)). */
        k[j] = (Backward){scale[j], (REAL)(-scale[j] * sum_g / plane), (REAL)(-scale[j] * sum_product / plane), 0};
    }
    if (gx && halves && !add) memset(gx, 0, (size_t)(in * 4 * plane) * sizeof(REAL));
    for (long r = 0; r < cell->height; r++) {
        backward_rows(dy, n, g, h, k, c, plane, r, n);
        for (long q = 0; q < (halves ? 2 : 1); q++) {
            const REAL *d = dy + q * outputs * n;
            const Matrix w = {weight + q * outputs * in, 1, in};
            if (g_weight) {
                rectified_row(row, x, cell, in, halves, r, q);
                outer_add(outer + q * outputs * in, d, n, outputs, row, n, in, n);
            }
            if (gx) {
                pointwise(row, n, w, in, d, n, outputs, n);
                rectified_row_backward(gx, row, x, cell, in, halves, r, q, add);
            }
        }
    }
    if (g_weight) add_up(g_weight, outer, c * in);
}

/* Points to the slices of the flat buffers of state s, each with means, then variances; returns the next state's. */
static REAL *place_running(REAL *at, const State *s, REAL **running) {
    const long mc = s->m * s->c, dilated = KINDS - SEPARABLE, reduce = s->stride == 2 ? mc : 0;
    const long lengths[5] = {2 * s->c, SEPARABLE * mc, SEPARABLE * mc, dilated * mc, reduce};
    for (int i = 0; i < 5; i++) {
        running[i] = at;
        if (at) at += 2 * lengths[i];
    }
    return at;
}

typedef struct {
    const REAL *x0, *x1; /* the cell's inputs, before ReLU */
    const REAL *weights; /* of the cell, flat */
    const REAL *rows;    /* [14, PRIMITIVES]: softmaxed alphas, ordered by state */
    void *saved;         /* cell_saved_bytes */
} Given;

/* With an arena that only counts, forward and backward neither read nor write any map. */
static void forward(const Cell *cell, const Given *given, REAL *buffers, REAL *out, Arena arena) {
    Arena kept = {given->saved, 0, NULL};
    const CellWeights w = place_cell_weights((REAL *)given->weights, cell);
    State states[STATES];
    const Inputs inputs = place_cell(&kept, states, cell, &w, given->rows);
    for (int i = 0; i < 2; i++) {
        preprocess(cell, i, i ? given->x1 : given->x0, w.preprocess[i], inputs.h[i], inputs.scale[i], buffers, arena);
        if (buffers) buffers += 2 * cell->channels;
    }
    REAL *nodes[NODES];
    for (int j = 0; j < NODES; j++) nodes[j] = out + j * cell->channels * states[0].out;
    for (int i = 0; i < STATES; i++) {
        REAL *running[5];
        buffers = place_running(buffers, &states[i], running);
        state_forward(&states[i], i < 2 ? inputs.h[i] : nodes[i - 2], nodes + (i < 2 ? 0 : i - 1), i == 0, arena, running);
    }
}

typedef struct {
    REAL *x0, *x1, *weights, *rows; /* NULL where not wanted */
    int adds[2]; /* 1: the gradient of the input is added to what is there */
} Gradients;

/* g: the gradient of the output, which is destroyed. */
static void backward(const Cell *cell, const Given *given, REAL *g, const REAL *out, const Gradients *wanted, Arena arena) {
    Arena kept = {given->saved, 0, NULL};
    const CellWeights w = place_cell_weights((REAL *)given->weights, cell);
    CellWeights grads = wanted->weights ? place_cell_weights(wanted->weights, cell) : (CellWeights){0};
    State states[STATES];
    const Inputs inputs = place_cell(&kept, states, cell, &w, given->rows);
    const long size = cell->channels * states[0].out, in = cell->channels * positions(cell);
    REAL *nodes[NODES], *g_h[2], *gx[2] = {wanted->x0, wanted->x1};
    for (int j = 0; j < NODES; j++) nodes[j] = g + j * size;
    for (int i = 0; i < 2; i++) g_h[i] = reals(&arena, in);
    for (int i = STATES - 1; i >= 0; i--) {
        const Wanted state_wanted = {wanted->weights || i >= 2 || gx[i], wanted->weights != NULL, wanted->rows != NULL};
        state_backward(&states[i], i < 2 ? inputs.h[i] : out + (i - 2) * size, nodes + (i < 2 ? 0 : i - 1), &grads.states[i],
                       wanted->rows ? wanted->rows + FIRST_ROW[i] * PRIMITIVES : NULL, i < 2 ? g_h[i] : nodes[i - 2], i >= 2,
                       state_wanted, arena);
    }
    for (int i = 0; i < 2; i++)
        if (gx[i] || wanted->weights)
            preprocess_backward(cell, i, g_h[i], inputs.h[i], inputs.scale[i], i ? given->x1 : given->x0, w.preprocess[i], gx[i],
                                wanted->adds[i], grads.preprocess[i], arena);
}

/* Returns the number of bytes of scratch memory that cell_forward needs. */
size_t cell_forward_bytes(const Cell *cell) {
    const Given given = {0};
    size_t bytes = 0;
    forward(cell, &given, NULL, NULL, (Arena){NULL, 0, &bytes});
    return bytes;
}

/* Returns the number of bytes of scratch memory that cell_backward needs for the gradients that are wanted. */
size_t cell_backward_bytes(const Cell *cell, int x0, int x1, int weights, int rows) {
    const Given given = {0};
    REAL some[1]; /* never read nor written */
    const Gradients wanted = {x0 ? some : NULL, x1 ? some : NULL, weights ? some : NULL, rows ? some : NULL, {0}};
    size_t bytes = 0;
    backward(cell, &given, NULL, NULL, &wanted, (Arena){NULL, 0, &bytes});
    return bytes;
}

/* Computes out [NODES * channels, ...] from the cell's inputs x0 and x1, before ReLU.
 *
 * weights, buffers: the cell's slices of the flat vectors. Buffers are moved towards this batch's statistics; NULL for none.
 * rows [14, PRIMITIVES]: softmaxed alphas, edges ordered by the state that they leave.
 * saved: memory of cell_saved_bytes bytes; scratch: memory of cell_forward_bytes bytes. Both are aligned to 64. */
void cell_forward(const Cell *cell, const REAL *x0, const REAL *x1, const REAL *weights, const REAL *rows, REAL *buffers,
                  REAL *out, void *saved, void *scratch) {
    const Given given = {x0, x1, weights, rows, saved};
    size_t bytes = cell_forward_bytes(cell);
    forward(cell, &given, buffers, out, (Arena){scratch, 0, &bytes});
}

/* Computes gradients from g, the gradient of out, which is destroyed. gx0, gx1, g_weights and g_rows are NULL if they are not wanted.
 * If add0 or add1 is 1, the gradient of x0 or x1 is added to gx0 or gx1; gx0 and gx1 may then be the same. The other arguments are
 * those of cell_forward; scratch has cell_backward_bytes bytes. */
void cell_backward(const Cell *cell, REAL *g, const REAL *x0, const REAL *x1, const REAL *weights, const REAL *rows,
                   const REAL *out, void *saved, REAL *gx0, REAL *gx1, REAL *g_weights, REAL *g_rows, int add0, int add1,
                   void *scratch) {
    const Given given = {x0, x1, weights, rows, saved};
    const Gradients wanted = {gx0, gx1, g_weights, g_rows, {add0, add1}};
    size_t bytes = cell_backward_bytes(cell, gx0 != NULL, gx1 != NULL, g_weights != NULL, g_rows != NULL);
    backward(cell, &given, g, out, &wanted, (Arena){scratch, 0, &bytes});
}
