/* Measures the rates of the kernels' inner loops on rows in the cache; see kernel_rates.py. */
#include <stdio.h>
#include <time.h>

#include "pointwise.h"
#include "taps.h"
#include "windows.h"

static double cpu_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec + 1e-9 * now.tv_nsec;
}

/* Arguments: channels, width, batch, repetitions. Prints "name rate", the rate in 1e9 operations per second. */
int main(int count, char **arguments) {
    if (count != 5) return 1;
    const long c = atol(arguments[1]), width = atol(arguments[2]), batch = atol(arguments[3]), repetitions = atol(arguments[4]);
    const long n = width * batch, row = n + 4 * batch;
    Arena arena = {NULL, 0, NULL};
    if (posix_memalign((void **)&arena.base, 64, (size_t)(2 * c * n + 2 * c * c + c * c * LANES + 5 * row + 4096) * sizeof(REAL))) return 1;
    REAL *x = reals(&arena, c * n), *y = reals(&arena, c * n), *w = reals(&arena, c * c), *source = reals(&arena, 5 * row);
    vec *outer = take(&arena, (size_t)(c * c) * sizeof(vec));
    vec *entries = take(&arena, MOST_TAPS * sizeof(vec));
    memset(arena.base, 0, arena.used);
    Taps taps = {.count = 25};
    for (int t = 0; t < 25; t++) taps.source[t] = source + t % 5 * batch + t / 5 * row, taps.index[t] = t;
    Window window = {.rows = 5, .columns = 5, .dilation = 1, .direction = 1, .width = width, .batch = batch};
    for (int i = 0; i < 5; i++) window.source[i] = source + i * row, window.entry[i] = 5 * i;
    WindowSum *add = window_sum(&window, 1);
    WindowDot *dot = window_dot(&window);
    REAL weights[MOST_TAPS] = {0};
    const double product = 2.0 * c * c * n * repetitions, sum_of_taps = 2.0 * 25 * n * repetitions;
    double start = cpu_seconds();
    for (long r = 0; r < repetitions; r++) pointwise(y, n, (Matrix){w, c, 1}, c, x, n, c, n);
    printf("pointwise %f\n", product / (cpu_seconds() - start) * 1e-9);
    start = cpu_seconds();
    for (long r = 0; r < repetitions; r++) outer_add(outer, x, n, c, y, n, c, n);
    printf("pointwise-gradient %f\n", product / (cpu_seconds() - start) * 1e-9);
    start = cpu_seconds();
    for (long r = 0; r < repetitions; r++) add(y, &window, weights, 0);
    printf("depthwise %f\n", sum_of_taps / (cpu_seconds() - start) * 1e-9);
    start = cpu_seconds();
    for (long r = 0; r < repetitions; r++) dot(entries, y, &window, 0);
    printf("depthwise-gradient %f\n", sum_of_taps / (cpu_seconds() - start) * 1e-9);
    start = cpu_seconds();
    for (long r = 0; r < repetitions; r++) tap_sum(y, &taps, 0, weights, n, 1);
    printf("depthwise-by-taps %f\n", sum_of_taps / (cpu_seconds() - start) * 1e-9);
    return 0;
}
