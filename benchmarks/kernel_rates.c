/* Measures the rates of the kernels' inner loops on rows in the cache; see kernel_rates.py. */
#include <stdio.h>
#include <time.h>

#include "pointwise.h"
#include "taps.h"

static double cpu_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec + 1e-9 * now.tv_nsec;
}

/* Arguments: channels, numbers in a row, repetitions. Prints "name rate", the rate in 1e9 operations per second. */
int main(int count, char **arguments) {
    if (count != 4) return 1;
    const long c = atol(arguments[1]), n = atol(arguments[2]), repetitions = atol(arguments[3]), size = 8192;
    Arena arena = {NULL, 0};
    if (posix_memalign((void **)&arena.base, 64, (size_t)(2 * c * n + 2 * c * c + c * c * LANES + size + 4096) * sizeof(REAL))) return 1;
    REAL *x = reals(&arena, c * n), *y = reals(&arena, c * n), *w = reals(&arena, c * c), *source = reals(&arena, size);
    vec *outer = take(&arena, (size_t)(c * c) * sizeof(vec));
    vec *entries = take(&arena, MOST_TAPS * sizeof(vec));
    memset(arena.base, 0, arena.used);
    Taps taps = {.count = 25};
    for (int t = 0; t < 25; t++) taps.source[t] = source + t % 5 * 8 + t / 5 * 320, taps.index[t] = t;
    REAL weights[4 * MOST_TAPS] = {0}, *out[4] = {y, y + n, y + 2 * n, y + 3 * n};
    const double product = 2.0 * c * c * n * repetitions, sum_of_taps = 2.0 * 25 * n * repetitions;
    double start = cpu_seconds();
    for (long r = 0; r < repetitions; r++) pointwise(y, n, (Matrix){w, c, 1}, c, x, n, c, n);
    printf("pointwise %f\n", product / (cpu_seconds() - start) * 1e-9);
    start = cpu_seconds();
    for (long r = 0; r < repetitions; r++) outer_add(outer, x, n, c, y, n, c, n);
    printf("pointwise-gradient %f\n", product / (cpu_seconds() - start) * 1e-9);
    start = cpu_seconds();
    for (long r = 0; r < repetitions; r++) tap_sum(4, out, &taps, 0, weights, n);
    printf("depthwise-of-4-edges %f\n", 4 * sum_of_taps / (cpu_seconds() - start) * 1e-9);
    start = cpu_seconds();
    for (long r = 0; r < repetitions; r++) tap_add(y, &taps, 0, weights, n);
    printf("depthwise %f\n", sum_of_taps / (cpu_seconds() - start) * 1e-9);
    start = cpu_seconds();
    for (long r = 0; r < repetitions; r++) tap_dot(entries, y, &taps, 0, n);
    printf("depthwise-gradient %f\n", sum_of_taps / (cpu_seconds() - start) * 1e-9);
    return 0;
}
