/* Vectors as wide as the processor's registers, for REAL = float or double. All other code uses only these few names. */
#ifndef RAMPART_VECTOR_H
#define RAMPART_VECTOR_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef REAL
#define REAL float
#define INTEGER int32_t /* of the same size */
#endif

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif
#define LANES ((long)(VECTOR_BYTES / sizeof(REAL)))
#define INLINE static inline __attribute__((always_inline))

/* aligned(sizeof(REAL)): may be loaded from any element, because rows of a map have no further alignment. */
typedef REAL vec __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));

/* The result of comparing two vectors: all bits of an element, or none. */
typedef INTEGER mask __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));

INLINE vec load(const REAL *p) { return *(const vec *)p; }
INLINE void store(REAL *p, vec x) { *(vec *)p = x; }
INLINE vec splat(REAL x) { return x - (vec){0}; }
INLINE vec where(mask m, vec x) { return (vec)(m & (mask)x); } /* x, or 0 */
INLINE vec choose(mask m, vec x, vec y) { return (vec)((m & (mask)x) | (~m & (mask)y)); }
INLINE vec positive(vec x) { return where(~(x <= (vec){0}), x); } /* max(0, x), but NaN stays NaN */

/* Keeps a loaded vector in its register: gcc would otherwise load it again at each use, and loads are the bottleneck. */
#if defined(__x86_64__)
#define HOLD(x) __asm__("" : "+v"(x))
#else
#define HOLD(x) (void)(x)
#endif

INLINE REAL sum(vec x) {
    REAL total = 0;
    for (long i = 0; i < LANES; i++) total += x[i];
    return total;
}

/* out[i] = sum of the vector of partial sums total[i]. */
static inline void add_up(REAL *out, const vec *total, long count) {
    for (long i = 0; i < count; i++) out[i] = sum(total[i]);
}

/* A matrix [outputs, inputs] with a stride for rows and one for columns, so that transposing needs no copy. */
typedef struct {
    const REAL *data;
    long row, column;
} Matrix;

/* A bump allocator over one block of memory, which the caller provides. Passed by value, so that a function's allocations are
 * free again when it returns.
 *
 * With base NULL it only counts: the whole pass is first called with such an arena to find the size of the block. Every function
 * therefore allocates all its memory at its beginning and then returns if `only_counts`. */
typedef struct {
    char *base;
    size_t used;
    size_t *size; /* of the block; while counting, the largest use so far; NULL: not tracked */
} Arena;

INLINE int only_counts(const Arena *arena) { return !arena->base; }

INLINE void *take(Arena *arena, size_t bytes) {
    char *start = arena->base ? arena->base + arena->used : NULL;
    arena->used += (bytes + 63) / 64 * 64;
    if (arena->size && arena->used > *arena->size) {
        if (start) abort(); /* allocated more than was counted */
        *arena->size = arena->used;
    }
    return start;
}

INLINE REAL *reals(Arena *arena, long count) { return take(arena, (size_t)count * sizeof(REAL)); }

INLINE void *cleared(void *at, size_t bytes) { return at ? memset(at, 0, bytes) : NULL; }
INLINE vec *zeros(Arena *arena, long count) {
    const size_t bytes = (size_t)count * sizeof(vec);
    return cleared(take(arena, bytes), bytes);
}
INLINE REAL *zero_reals(Arena *arena, long count) { return cleared(reals(arena, count), (size_t)count * sizeof(REAL)); }

#endif
