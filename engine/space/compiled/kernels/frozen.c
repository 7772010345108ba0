/* The frozen forward pass of a derived network, and the gradient with respect to its images, as a list of steps.
 *
 * Images are computed in blocks of LANES. The maps of a block are [channels, plane, LANES], where a plane holds the pixels row by
 * row: one vector holds one pixel of LANES images. No image therefore depends on another one, all loops run over whole vectors,
 * and the maps of small images stay in the cache. engine/space/compiled/frozen.py makes the list.
 */
#include "vector.h"

enum { STEM, PROJECT, SEPARABLE, SKIP, AVERAGE, MAXIMUM, MEAN, FILL };

/* One operation. Offsets count vectors in the block of values or gradients, and numbers in the weights; -1: none. */
typedef struct {
    long kind;
    long from, to;                   /* offsets of the maps read and written */
    long from_gradient, to_gradient; /* offsets of their gradients */
    long inputs, outputs;            /* channels */
    long height, width;              /* of the maps read */
    long stride, shift;              /* reads the pixels (stride h + shift, stride w + shift) */
    long size, dilation;             /* of the depthwise kernel */
    long rectify;                    /* 1 to read max(0, x) */
    long weight;                     /* [outputs, inputs] */
    long kernel;                     /* [inputs, size, size] */
    long constant;                   /* [outputs], where the maps written start from; -1: the operation adds to them */
    long fresh;                      /* 1 if no other operation has written the gradient of the maps read before */
} Step;

typedef struct {
    const Step *steps;
    long count;
    const REAL *weights;
    const REAL *mean, *deviation;            /* of each image channel */
    long channels, height, width, classes;   /* of images and logits */
    long image, logits;                      /* offsets */
    long image_gradient, logits_gradient;
    long values;                             /* vectors in the values of one block of images */
} Network;

/* An odd number of vectors, so that the planes of one pixel do not all fall into the same few sets of the cache. */
INLINE long plane(long height, long width) { return (height * width | 1) * LANES; }

/* Writes y, where the gate is positive (if there is one), or adds it. */
INLINE void put(REAL *out, vec y, const REAL *gate, int add) {
    if (gate) y = where(load(gate) > (vec){0}, y);
    if (add) y += load(out);
    store(out, y);
}

INLINE void product_tile(const int rows, const int vectors, const int rectify, REAL *out, long out_plane, Matrix a, const REAL *x,
                         long x_plane, long inputs, const REAL *constant, const REAL *gate, int add) {
    vec total[8][2]; /* compilers keep only arrays of a fixed size in registers */
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) total[r][v] = (vec){0} + (constant ? constant[r] : 0);
    for (long k = 0; k < inputs; k++) {
        vec in[2];
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++) {
            in[v] = load(x + k * x_plane + v * LANES);
            if (rectify) in[v] = positive(in[v]);
        }
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            const vec w = splat(a.data[r * a.row + k * a.column]);
#pragma GCC unroll 2
            for (int v = 0; v < vectors; v++) total[r][v] += w * in[v];
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 2
        for (int v = 0; v < vectors; v++)
            put(out + r * out_plane + v * LANES, total[r][v], gate ? gate + r * out_plane + v * LANES : NULL, add);
}

INLINE void product_rows(const int rows, const int rectify, REAL *out, long out_plane, Matrix a, const REAL *x, long x_plane,
                         long inputs, long n, const REAL *constant, const REAL *gate, int add) {
    long i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES)
        product_tile(rows, 2, rectify, out + i, out_plane, a, x + i, x_plane, inputs, constant, gate ? gate + i : NULL, add);
    if (i < n) product_tile(rows, 1, rectify, out + i, out_plane, a, x + i, x_plane, inputs, constant, gate ? gate + i : NULL, add);
}

INLINE void product_of(const int rectify, REAL *out, long out_plane, Matrix a, long outputs, const REAL *x, long x_plane,
                       long inputs, long n, const REAL *constant, const REAL *gate, int add) {
    for (long o = 0; o < outputs;) {
        const Matrix rest = {a.data + o * a.row, a.row, a.column};
        const REAL *start = constant ? constant + o : NULL, *open = gate ? gate + o * out_plane : NULL;
        REAL *to = out + o * out_plane;
        if (o + 8 <= outputs) product_rows(8, rectify, to, out_plane, rest, x, x_plane, inputs, n, start, open, add), o += 8;
        else if (o + 4 <= outputs) product_rows(4, rectify, to, out_plane, rest, x, x_plane, inputs, n, start, open, add), o += 4;
        else product_rows(1, rectify, to, out_plane, rest, x, x_plane, inputs, n, start, open, add), o++;
    }
}

/* out = constant + a x for a [outputs, inputs] and x [inputs, n], or out += a x if `add`. Planes are the distances between rows.
 * With `rectify`, x is max(0, x). With a gate, which lies like out, the product counts only where the gate is positive. */
static void product(REAL *out, long out_plane, Matrix a, long outputs, const REAL *x, long x_plane, long inputs, long n,
                    int rectify, const REAL *constant, const REAL *gate, int add) {
    if (rectify) product_of(1, out, out_plane, a, outputs, x, x_plane, inputs, n, constant, gate, add);
    else product_of(0, out, out_plane, a, outputs, x, x_plane, inputs, n, constant, gate, add);
}

INLINE Matrix transposed(const REAL *weight, long row) { return (Matrix){weight, 1, row}; }

/* One row of a depthwise convolution of stride 1 on a map of a width known to the compiler, which then needs no padding. */
INLINE void narrow_row(const int width, const int size, const int dilation, REAL *out, const REAL *map, const REAL *kernel, long h,
                       long height, const REAL *gate, int add) {
    vec total[16];
#pragma GCC unroll 16
    for (int v = 0; v < width; v++) total[v] = (vec){0};
    for (int i = 0; i < size; i++) {
        const long row = h + dilation * (i - size / 2);
        if (row < 0 || row >= height) continue;
        vec x[16];
#pragma GCC unroll 16
        for (int v = 0; v < width; v++) x[v] = load(map + (row * width + v) * LANES);
#pragma GCC unroll 8
        for (int j = 0; j < size; j++) {
            const int shift = dilation * (j - size / 2);
            if (shift >= width || -shift >= width) continue;
            const vec w = splat(kernel[i * size + j]);
#pragma GCC unroll 16
            for (int v = 0; v < width; v++)
                if (v + shift >= 0 && v + shift < width) total[v] += w * x[v + shift];
        }
    }
#pragma GCC unroll 16
    for (int v = 0; v < width; v++) put(out + v * LANES, total[v], gate ? gate + v * LANES : NULL, add);
}

INLINE void narrow(const int width, const int size, const int dilation, REAL *out, const REAL *map, const REAL *kernel,
                   long height, const REAL *gate, int add) {
    for (long h = 0; h < height; h++)
        narrow_row(width, size, dilation, out + h * width * LANES, map, kernel, h, height, gate ? gate + h * width * LANES : NULL,
                   add);
}

INLINE int narrow_width(const int size, const int dilation, REAL *out, const REAL *map, const REAL *kernel, long height,
                        long width, const REAL *gate, int add) {
    switch (width) {
        case 2: narrow(2, size, dilation, out, map, kernel, height, gate, add); return 1;
        case 4: narrow(4, size, dilation, out, map, kernel, height, gate, add); return 1;
        case 8: narrow(8, size, dilation, out, map, kernel, height, gate, add); return 1;
        case 16: narrow(16, size, dilation, out, map, kernel, height, gate, add); return 1;
        default: return 0;
    }
}

INLINE int is_narrow(const Step *s) {
    return s->stride == 1 && s->size <= 5 && (s->width == 2 || s->width == 4 || s->width == 8 || s->width == 16);
}

static void convolve_narrow(const Step *s, REAL *out, const REAL *map, const REAL *kernel, const REAL *gate, int add) {
    if (s->size == 3 && s->dilation == 1) narrow_width(3, 1, out, map, kernel, s->height, s->width, gate, add);
    else if (s->size == 3) narrow_width(3, 2, out, map, kernel, s->height, s->width, gate, add);
    else if (s->dilation == 1) narrow_width(5, 1, out, map, kernel, s->height, s->width, gate, add);
    else narrow_width(5, 2, out, map, kernel, s->height, s->width, gate, add);
}

INLINE void padded_tile(const int columns, REAL *out, const REAL *from, long pitch, const REAL *kernel, long first, long last,
                        long size, long dilation, long stride, const REAL *gate, int add) {
    vec total[8];
#pragma GCC unroll 8
    for (int v = 0; v < columns; v++) total[v] = (vec){0};
    for (long i = first; i < last; i++)
        for (long j = 0; j < size; j++) {
            const REAL *x = from + (i * pitch + j) * dilation * LANES;
            const vec w = splat(kernel[i * size + j]);
#pragma GCC unroll 8
            for (int v = 0; v < columns; v++) total[v] += w * load(x + v * stride * LANES);
        }
#pragma GCC unroll 8
    for (int v = 0; v < columns; v++) put(out + v * LANES, total[v], gate ? gate + v * LANES : NULL, add);
}

/* A depthwise convolution of one map with `reach` rows and columns of zeros on each side; writes height x width pixels. */
static void convolve_padded(const Step *s, REAL *out, const REAL *map, long height, long width, long stride, const REAL *kernel,
                            const REAL *gate, int add) {
    const long reach = s->dilation * (s->size / 2), pitch = s->width + 2 * reach;
    for (long h = 0; h < height; h++) {
        long first = 0, last = s->size; /* rows of the kernel that meet the map */
        while (stride * h + s->dilation * first < reach) first++;
        while (stride * h + s->dilation * (last - 1) >= s->height + reach) last--;
        const REAL *row = map + stride * h * pitch * LANES;
        for (long w = 0; w < width;) {
            const long at = (h * width + w) * LANES;
            const REAL *open = gate ? gate + at : NULL, *from = row + stride * w * LANES;
            if (w + 8 <= width)
                padded_tile(8, out + at, from, pitch, kernel, first, last, s->size, s->dilation, stride, open, add), w += 8;
            else padded_tile(1, out + at, from, pitch, kernel, first, last, s->size, s->dilation, stride, open, add), w++;
        }
    }
}

/* Copies a map of height x width pixels to `to`, of rows of `pitch` vectors, at distances of `spread` pixels. */
INLINE void copy_map(REAL *to, const REAL *from, long height, long width, long pitch, long spread, const int rectify) {
    for (long h = 0; h < height; h++)
        for (long w = 0; w < width; w++) {
            const vec x = load(from + (h * width + w) * LANES);
            store(to + spread * (h * pitch + w) * LANES, rectify ? positive(x) : x);
        }
}

typedef struct {
    REAL *maps;   /* [inputs, plane of the maps written] */
    REAL *padded; /* one map with zeros around it */
} Scratch;

static Scratch place_scratch(const Step *s, REAL *at) {
    const long out = plane(s->height / s->stride, s->width / s->stride);
    return (Scratch){at, at + s->inputs * out};
}

INLINE long padded_size(const Step *s) {
    const long reach = s->dilation * (s->size / 2);
    return (s->height + 2 * reach) * (s->width + 2 * reach) * LANES;
}

/* A depthwise convolution, then a 1x1 convolution. */
static void separable(const Step *s, const REAL *weights, const REAL *in, REAL *out, REAL *scratch) {
    const Scratch t = place_scratch(s, scratch);
    const long height = s->height / s->stride, width = s->width / s->stride, reach = s->dilation * (s->size / 2);
    const long from = plane(s->height, s->width), to = plane(height, width), pitch = s->width + 2 * reach;
    if (!is_narrow(s)) memset(t.padded, 0, (size_t)padded_size(s) * sizeof(REAL));
    for (long c = 0; c < s->inputs; c++) {
        const REAL *kernel = weights + s->kernel + c * s->size * s->size;
        if (is_narrow(s)) {
            copy_map(t.padded, in + c * from, 1, s->height * s->width, 0, 1, 1);
            convolve_narrow(s, t.maps + c * to, t.padded, kernel, NULL, 0);
        } else {
            copy_map(t.padded + (reach * pitch + reach) * LANES, in + c * from, s->height, s->width, pitch, 1, 1);
            convolve_padded(s, t.maps + c * to, t.padded, height, width, s->stride, kernel, NULL, 0);
        }
    }
    const REAL *constant = s->constant < 0 ? NULL : weights + s->constant;
    product(out, to, (Matrix){weights + s->weight, s->inputs, 1}, s->outputs, t.maps, to, s->inputs, height * width * LANES, 0,
            constant, NULL, !constant);
}

static void separable_backward(const Step *s, const REAL *weights, const REAL *in, REAL *g_in, const REAL *g_out, REAL *scratch) {
    const Scratch t = place_scratch(s, scratch);
    const long height = s->height / s->stride, width = s->width / s->stride, reach = s->dilation * (s->size / 2);
    const long from = plane(s->height, s->width), to = plane(height, width), pitch = s->width + 2 * reach;
    product(t.maps, to, transposed(weights + s->weight, s->inputs), s->inputs, g_out, to, s->outputs, height * width * LANES, 0,
            NULL, NULL, 0);
    if (!is_narrow(s)) memset(t.padded, 0, (size_t)padded_size(s) * sizeof(REAL));
    for (long c = 0; c < s->inputs; c++) {
        const long entries = s->size * s->size;
        REAL turned[49]; /* the kernel, turned by 180 degrees */
        for (long i = 0; i < entries; i++) turned[i] = weights[s->kernel + (c + 1) * entries - 1 - i];
        if (is_narrow(s)) {
            convolve_narrow(s, g_in + c * from, t.maps + c * to, turned, in + c * from, !s->fresh);
        } else {
            copy_map(t.padded + (reach * pitch + reach) * LANES, t.maps + c * to, height, width, pitch, s->stride, 0);
            convolve_padded(s, g_in + c * from, t.padded, s->height, s->width, 1, turned, in + c * from, !s->fresh);
        }
    }
}

/* A dense convolution of stride 1, row by row, as a product with the patches of the row. */
static void stem(const Step *s, const REAL *weights, const REAL *in, REAL *out, REAL *scratch) {
    const long from = plane(s->height, s->width), row = s->width * LANES, taps = s->size * s->size, half = s->size / 2;
    for (long h = 0; h < s->height; h++) {
        memset(scratch, 0, (size_t)(s->inputs * taps * row) * sizeof(REAL));
        for (long k = 0; k < s->inputs * taps; k++) {
            const long y = h + k % taps / s->size - half, right = k % s->size - half, first = right < 0 ? -right : 0;
            if (y < 0 || y >= s->height) continue;
            const REAL *source = in + k / taps * from + (y * s->width + first + right) * LANES;
            memcpy(scratch + k * row + first * LANES, source, (size_t)((s->width - labs(right)) * LANES) * sizeof(REAL));
        }
        product(out + h * row, from, (Matrix){weights + s->weight, s->inputs * taps, 1}, s->outputs, scratch, row,
                s->inputs * taps, row, 0, weights + s->constant, NULL, 0);
    }
}

static void stem_backward(const Step *s, const REAL *weights, REAL *g_in, const REAL *g_out, REAL *scratch) {
    const long from = plane(s->height, s->width), row = s->width * LANES, taps = s->size * s->size, half = s->size / 2;
    memset(g_in, 0, (size_t)(s->inputs * from) * sizeof(REAL));
    for (long h = 0; h < s->height; h++) {
        product(scratch, row, transposed(weights + s->weight, s->inputs * taps), s->inputs * taps, g_out + h * row, from,
                s->outputs, row, 0, NULL, NULL, 0);
        for (long k = 0; k < s->inputs * taps; k++) {
            const long y = h + k % taps / s->size - half, right = k % s->size - half, first = right < 0 ? -right : 0;
            if (y < 0 || y >= s->height) continue;
            REAL *to = g_in + k / taps * from + (y * s->width + first + right) * LANES;
            const REAL *g = scratch + k * row + first * LANES;
            for (long i = 0; i < (s->width - labs(right)) * LANES; i += LANES) store(to + i, load(to + i) + load(g + i));
        }
    }
}

/* A 1x1 convolution; at stride 2, of the pixels gathered from each row. */
static void project(const Step *s, const REAL *weights, const REAL *in, REAL *out, REAL *scratch) {
    const REAL *constant = s->constant < 0 ? NULL : weights + s->constant;
    const Matrix weight = {weights + s->weight, s->inputs, 1};
    const long from = plane(s->height, s->width), height = s->height / s->stride, width = s->width / s->stride;
    if (s->stride == 1) {
        product(out, from, weight, s->outputs, in, from, s->inputs, height * width * LANES, (int)s->rectify, constant, NULL, !constant);
        return;
    }
    for (long h = 0; h < height; h++) {
        for (long c = 0; c < s->inputs; c++)
            for (long w = 0; w < width; w++)
                store(scratch + (c * width + w) * LANES,
                      load(in + c * from + ((s->stride * h + s->shift) * s->width + s->stride * w + s->shift) * LANES));
        product(out + h * width * LANES, plane(height, width), weight, s->outputs, scratch, width * LANES, s->inputs, width * LANES,
                (int)s->rectify, constant, NULL, !constant);
    }
}

static void project_backward(const Step *s, const REAL *weights, const REAL *in, REAL *g_in, const REAL *g_out, REAL *scratch) {
    const Matrix weight = transposed(weights + s->weight, s->inputs);
    const long from = plane(s->height, s->width), height = s->height / s->stride, width = s->width / s->stride;
    if (s->stride == 1) {
        product(g_in, from, weight, s->inputs, g_out, from, s->outputs, height * width * LANES, 0, NULL, s->rectify ? in : NULL,
                !s->fresh);
        return;
    }
    if (s->fresh) memset(g_in, 0, (size_t)(s->inputs * from) * sizeof(REAL));
    for (long h = 0; h < height; h++) {
        product(scratch, width * LANES, weight, s->inputs, g_out + h * width * LANES, plane(height, width), s->outputs,
                width * LANES, 0, NULL, NULL, 0);
        for (long c = 0; c < s->inputs; c++)
            for (long w = 0; w < width; w++) {
                const long at = c * from + ((s->stride * h + s->shift) * s->width + s->stride * w + s->shift) * LANES;
                put(g_in + at, load(scratch + (c * width + w) * LANES), s->rectify ? in + at : NULL, 1);
            }
    }
}

/* The pixels of the 3x3 window of output (h, w) that are inside the map: rows [top, bottom), columns [left, right). */
typedef struct {
    long top, bottom, left, right;
} Window;

INLINE Window window(const Step *s, long h, long w) {
    const long y = s->stride * h, x = s->stride * w;
    return (Window){y ? y - 1 : 0, y + 2 < s->height ? y + 2 : s->height, x ? x - 1 : 0, x + 2 < s->width ? x + 2 : s->width};
}

/* The average or the maximum of each window. */
static void pool(const Step *s, const REAL *weights, const REAL *in, REAL *out) {
    const long height = s->height / s->stride, width = s->width / s->stride;
    for (long c = 0; c < s->inputs; c++, in += plane(s->height, s->width), out += plane(height, width))
        for (long h = 0; h < height; h++)
            for (long w = 0; w < width; w++) {
                const Window at = window(s, h, w);
                vec total = {0}, largest = load(in + (at.top * s->width + at.left) * LANES);
                for (long y = at.top; y < at.bottom; y++)
                    for (long x = at.left; x < at.right; x++) {
                        const vec value = load(in + (y * s->width + x) * LANES);
                        total += value;
                        largest = choose(value > largest, value, largest);
                    }
                REAL *to = out + (h * width + w) * LANES;
                const REAL share = (REAL)1 / ((at.bottom - at.top) * (at.right - at.left));
                vec result = largest;
                if (s->kind == AVERAGE) result = total * share;
                if (s->constant < 0) result += load(to);
                else result += weights[s->constant + c];
                store(to, result);
            }
}

/* Of equal largest pixels, the first one gets the gradient. */
static void pool_backward(const Step *s, const REAL *in, REAL *g_in, const REAL *g_out) {
    const long height = s->height / s->stride, width = s->width / s->stride, from = plane(s->height, s->width);
    if (s->fresh) memset(g_in, 0, (size_t)(s->inputs * from) * sizeof(REAL));
    for (long c = 0; c < s->inputs; c++, in += from, g_in += from, g_out += plane(height, width))
        for (long h = 0; h < height; h++)
            for (long w = 0; w < width; w++) {
                const Window at = window(s, h, w);
                const vec g = load(g_out + (h * width + w) * LANES);
                vec largest = load(in + (at.top * s->width + at.left) * LANES);
                for (long y = at.top; s->kind == MAXIMUM && y < at.bottom; y++)
                    for (long x = at.left; x < at.right; x++) {
                        const vec value = load(in + (y * s->width + x) * LANES);
                        largest = choose(value > largest, value, largest);
                    }
                mask open = ~(mask){0};
                const REAL share = (REAL)1 / ((at.bottom - at.top) * (at.right - at.left));
                for (long y = at.top; y < at.bottom; y++)
                    for (long x = at.left; x < at.right; x++) {
                        REAL *to = g_in + (y * s->width + x) * LANES;
                        if (s->kind == AVERAGE) {
                            store(to, load(to) + g * share);
                            continue;
                        }
                        const mask here = open & (load(in + (y * s->width + x) * LANES) == largest);
                        store(to, load(to) + where(here, g));
                        open &= ~here;
                    }
            }
}

/* Starts maps from constants, and adds the maps read (SKIP) or nothing (FILL). */
static void skip(const Step *s, const REAL *weights, const REAL *in, REAL *out) {
    const long pixels = s->height * s->width * LANES, step = plane(s->height, s->width);
    for (long c = 0; c < s->outputs; c++, in += step, out += step)
        for (long i = 0; i < pixels; i += LANES) {
            vec total = {0};
            if (s->constant < 0) total = load(out + i);
            else total += weights[s->constant + c];
            if (s->kind == SKIP) total += load(in + i);
            store(out + i, total);
        }
}

static void skip_backward(const Step *s, REAL *g_in, const REAL *g_out) {
    const long pixels = s->height * s->width * LANES, step = plane(s->height, s->width);
    for (long c = 0; c < s->inputs; c++, g_in += step, g_out += step)
        for (long i = 0; i < pixels; i += LANES) put(g_in + i, load(g_out + i), NULL, !s->fresh);
}

/* The mean over all pixels. */
static void mean(const Step *s, const REAL *in, REAL *out) {
    const long pixels = s->height * s->width;
    for (long c = 0; c < s->inputs; c++, in += plane(s->height, s->width)) {
        vec total = {0};
        for (long i = 0; i < pixels; i++) total += load(in + i * LANES);
        store(out + c * LANES, total / (REAL)pixels);
    }
}

static void mean_backward(const Step *s, REAL *g_in, const REAL *g_out) {
    const long pixels = s->height * s->width;
    for (long c = 0; c < s->inputs; c++, g_in += plane(s->height, s->width))
        for (long i = 0; i < pixels; i++) put(g_in + i * LANES, load(g_out + c * LANES) / (REAL)pixels, NULL, !s->fresh);
}

static void forward(const Step *s, const REAL *weights, REAL *values, REAL *scratch) {
    const REAL *in = values + s->from * LANES;
    REAL *out = values + s->to * LANES;
    switch (s->kind) {
        case STEM: stem(s, weights, in, out, scratch); break;
        case PROJECT: project(s, weights, in, out, scratch); break;
        case SEPARABLE: separable(s, weights, in, out, scratch); break;
        case AVERAGE: case MAXIMUM: pool(s, weights, in, out); break;
        case MEAN: mean(s, in, out); break;
        default: skip(s, weights, in, out);
    }
}

static void backward(const Step *s, const REAL *weights, const REAL *values, REAL *gradients, REAL *scratch) {
    const REAL *in = values + s->from * LANES, *g_out = gradients + s->to_gradient * LANES;
    REAL *g_in = gradients + s->from_gradient * LANES;
    switch (s->kind) {
        case STEM: stem_backward(s, weights, g_in, g_out, scratch); break;
        case PROJECT: project_backward(s, weights, in, g_in, g_out, scratch); break;
        case SEPARABLE: separable_backward(s, weights, in, g_in, g_out, scratch); break;
        case AVERAGE: case MAXIMUM: pool_backward(s, in, g_in, g_out); break;
        case MEAN: mean_backward(s, g_in, g_out); break;
        case SKIP: skip_backward(s, g_in, g_out); break;
        default: break;
    }
}

long frozen_lanes(void) { return LANES; }

/* Computes the logits [images, classes] of x [images, channels, height, width] for the images of blocks first .. last - 1.
 *
 * values: memory of the network's `values` vectors for each block if `keep` (the backward pass needs them), else for one.
 * scratch: memory of `scratch` vectors. Both are aligned to a number. */
void frozen_forward(const Network *net, const REAL *x, REAL *logits, long images, long first, long last, REAL *values, int keep,
                     REAL *scratch) {
    const long pixels = net->height * net->width;
    for (long block = first; block < last; block++) {
        const long count = images - block * LANES < LANES ? images - block * LANES : LANES;
        const REAL *from = x + block * LANES * net->channels * pixels;
        REAL *at = values + (keep ? block * net->values * LANES : 0), *to = at + net->image * LANES;
        for (long c = 0; c < net->channels; c++, to += plane(net->height, net->width))
            for (long i = 0; i < pixels; i++)
                for (long l = 0; l < LANES; l++)
                    to[i * LANES + l] = l < count ? (from[(l * net->channels + c) * pixels + i] - net->mean[c]) / net->deviation[c] : 0;
        for (long k = 0; k < net->count; k++) forward(&net->steps[k], net->weights, at, scratch);
        for (long l = 0; l < count; l++)
            for (long k = 0; k < net->classes; k++)
                logits[(block * LANES + l) * net->classes + k] = at[(net->logits + k) * LANES + l];
    }
}

/* Computes the gradient g_x of x from g [images, classes], the gradient of the logits, with the values kept by the forward pass.
 * gradients: memory of `gradients` vectors. */
void frozen_backward(const Network *net, const REAL *g, REAL *g_x, long images, long first, long last, const REAL *values,
                      REAL *gradients, REAL *scratch) {
    const long pixels = net->height * net->width;
    for (long block = first; block < last; block++) {
        const long count = images - block * LANES < LANES ? images - block * LANES : LANES;
        for (long k = 0; k < net->classes; k++)
            for (long l = 0; l < LANES; l++)
                gradients[(net->logits_gradient + k) * LANES + l] = l < count ? g[(block * LANES + l) * net->classes + k] : 0;
        for (long k = net->count - 1; k >= 0; k--)
            backward(&net->steps[k], net->weights, values + block * net->values * LANES, gradients, scratch);
        const REAL *from = gradients + net->image_gradient * LANES;
        for (long c = 0; c < net->channels; c++, from += plane(net->height, net->width))
            for (long l = 0; l < count; l++)
                for (long i = 0; i < pixels; i++)
                    g_x[((block * LANES + l) * net->channels + c) * pixels + i] = from[i * LANES + l] / net->deviation[c];
    }
}
