// Counting in C, as an application would: one word in a file that is mapped shared.
//
// count FILE OFFSET single|shared: prints READY; each line on standard input is a number of
// increments, and the answer is what one of them took, in nanoseconds.
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

static void single(_Atomic uint64_t *word, uint64_t increments)
{
    for (uint64_t n = 0; n < increments; n++) {
        uint64_t sum = atomic_load_explicit(word, memory_order_relaxed) + 1;
        atomic_store_explicit(word, sum, memory_order_relaxed);
    }
}

static void shared(_Atomic uint64_t *word, uint64_t increments)
{
    for (uint64_t n = 0; n < increments; n++)
        atomic_fetch_add_explicit(word, 1, memory_order_relaxed);
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e9 + time.tv_nsec;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    int file = open(argv[1], O_RDWR);
    char *start = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (file < 0 || start == MAP_FAILED)
        return 1;
    _Atomic uint64_t *word = (_Atomic uint64_t *)(start + strtoul(argv[2], NULL, 10));
    void (*count)(_Atomic uint64_t *, uint64_t) = strcmp(argv[3], "single") ? shared : single;
    puts("READY");
    fflush(stdout);
    unsigned long increments;
    while (scanf("%lu", &increments) == 1) {
        double began = now();
        count(word, increments);
        printf("%f\n", (now() - began) / increments);
        fflush(stdout);
    }
    return 0;
}
