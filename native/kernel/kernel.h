/* What all kernels share: how a prepared layer is called, and how many threads it may use.
 *
 * A layer is prepared once (weights packed, a context filled) and called often. Every operation has
 * one function of this type; the context says which layer, and which instruction set it was packed
 * for. So a plan can hold (function, context) pairs and run them one after the other. */
#ifndef QSDK_KERNEL_H
#define QSDK_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef _OPENMP
#include <omp.h>
#endif

/* [cffi] */
/* layer    the context: a struct that the operation's header declares
 * x, rows  the input, contiguous: rows of a matrix, images of a batch
 * y        the result, contiguous, not overlapping x
 * scratch  at least as many bytes as the operation's *_scratch function says, aligned to 64;
 *          no two calls may use it at once
 * threads  at most so many, 0 for as many as the runtime would take */
typedef void qsdk_run(const void *layer, const void *x, size_t rows, void *y, void *scratch,
                      int threads);
/* [/cffi] */

/* How many threads to use for so much work, in nanoseconds of one thread: starting them costs
 * some microseconds, so little work stays on one. */
static inline int qsdk_threads_portable(int threads, double nanoseconds)
{
#ifdef _OPENMP
    const int most = omp_get_max_threads(); /* what OMP_NUM_THREADS and threadpoolctl say */
    const int allowed = threads > 0 && threads < most ? threads : most;
    const double useful = nanoseconds / 20e3;
    return useful < 2 ? 1 : useful < allowed ? (int)useful : allowed;
#else
    (void)threads, (void)nanoseconds;
    return 1;
#endif
}

#endif
