/*
 * A program that runs inputs one after another. With "run" it reads them from standard input, each a `struct vm_given`,
 * and writes a word of 32 bits for each: the clauses violated, as bits, and what else there is to tell. With "expect" it
 * writes what the spec asks of each, and calls no subject. With "exhaust" it runs a small scope (exhaust.c).
 *
 * What the subject and the model have in variables lies in one section (`vm_data`), and is set back before each run.
 *
 * SPDX-License-Identifier: MIT
 */
#include "native.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#define PLACES_WATCHED 3
#define IOVEC 0x20000000ull
#define HEAP_BYTES (1u << 20)
#define DATA_BYTES (1u << 20)
#define TICK_MICROSECONDS 20000

extern char __start_vm_data[] __attribute__((weak)), __stop_vm_data[] __attribute__((weak));


struct iovec *vm_iovec;
unsigned vm_n_watched = 0;
static struct vm_given input = {{{0}}};
static sigjmp_buf out = {0};
unsigned vm_hangs;
const char *vm_why_left;
static volatile unsigned runs = 0, run_at_tick = 0;
static char heap[HEAP_BYTES] __attribute__((aligned(16))) = {0};
static size_t heap_used = 0;
static char data[DATA_BYTES] = {0};

/* ---- the C library's --------------------------------------------------------------------------------------------------- */

int vm_snprintf(char *text, size_t room, const char *format, ...)
{
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = vsnprintf(text, room, format, arguments);
    va_end(arguments);
    return length;
}

/* ---- how a run ends --------------------------------------------------------------------------------------------------- */

void vm_violate(unsigned clauses)
{
    vm_violated |= clauses;
}

/* Of a call that ends its process, only how it ended is judged. */
void vm_die(unsigned clauses)
{
    if (vm_is_second) {
        vm_again = clauses;
        vm_violated = vm_before;
    } else {
        vm_violated = clauses;
    }
    siglongjmp(out, 1);
}

void vm_leave(const char *why)
{
    vm_why_left = why;
    vm_violated |= VM_LEFT;
    siglongjmp(out, 1);
}

static void on_crash(int signal, siginfo_t *info, void *context)
{
    const u64 address = (u64)info->si_addr;

    (void)signal, (void)context;
    /* Memory that is there in the model has no bytes. */
    if (address >= vm_block_host(0) && address < VM_TASK_END) {
        vm_leave("bytes of memory that is read or written");
    }
    vm_die(VM(SURVIVES));
}

/* A run that is there at two ticks takes too long. */
static void on_tick(int signal)
{
    (void)signal;
    if (runs && runs == run_at_tick) {
        vm_hangs++;
        vm_die(VM(SURVIVES));
    }
    run_at_tick = runs;
}

static void listen(void)
{
    static char stack[1 << 16];
    const stack_t other = {.ss_sp = stack, .ss_size = sizeof(stack)};
    const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP};
    struct sigaction crash = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
    struct sigaction tick = {.sa_handler = on_tick, .sa_flags = SA_NODEFER | SA_ONSTACK | SA_RESTART};
    const struct itimerval every = {{0, TICK_MICROSECONDS}, {0, TICK_MICROSECONDS}};
    unsigned i;

    sigaltstack(&other, NULL);
    for (i = 0; i < sizeof(crashes) / sizeof(*crashes); i++) {
        sigaction(crashes[i], &crash, NULL);
    }
    sigaction(SIGVTALRM, &tick, NULL);
    setitimer(ITIMER_VIRTUAL, &every, NULL);
}

/* ---- the heap ----------------------------------------------------------------------------------------------------------- */

struct block { size_t bytes, live; };
#define LIVE 0x6c69766521ull

void *vm_block(size_t bytes, bool zero)
{
    const size_t taken = sizeof(struct block) + ((bytes + 15) & ~(size_t)15);
    struct block *block = (struct block *)(heap + heap_used);

    if (taken < bytes || taken > HEAP_BYTES - heap_used) {
        vm_leave("room for so much memory");
    }
    heap_used += taken;
    block->bytes = bytes;
    block->live = LIVE;
    return memset(block + 1, zero ? 0 : 0xa5, bytes);
}

void vm_return(void *pointer)
{
    struct block *block = (struct block *)pointer - 1;
    const size_t at = (size_t)((char *)block - heap);

    if (at >= heap_used || at % 16 || block->live != LIVE) {
        vm_die(VM(SURVIVES));
    }
    block->live = 0;
    memset(pointer, 0x5a, block->bytes);
}

/* ---- pages to watch ------------------------------------------------------------------------------------------------------ */

static void watch(u64 address)
{
    const u64 page = address & ~(VM_PAGE - 1);
    unsigned w;

    if (page >= VM_TASK_END) {
        return;
    }
    for (w = 0; w < vm_n_watched; w++) {
        if (vm_given.watched[w] == page) {
            return;
        }
    }
    if (vm_n_watched < VM_WATCHED) {
        vm_given.watched[vm_n_watched++] = page;
    }
}

/* The borders of each segment where a mapping begins here. */
static void watch_mapping(u64 start)
{
    unsigned c, i;

    for (c = 0; c < VM_CALLS; c++) {
        u64 at = 0;

        for (i = 0; i < VM_SEGMENTS && i < vm_given.call[c].n; i++) {
            const u64 length = vm_given.call[c].segment[i].length;

            if (length > 1ull << 42 || at > 1ull << 42) {
                break;
            }
            watch(start + at);
            watch(start + at + VM_PAGE);
            at += vm_page_up(length);
            watch(start + at - VM_PAGE);
            watch(start + at);
        }
        if (vm_given.call[c].total_size < 1ull << 42) {
            watch(start + vm_given.call[c].total_size - 1);
            watch(start + vm_given.call[c].total_size + VM_PAGE - 1);
        }
    }
}

/* Where mappings of the first places would be, and the borders of the blocks. */
static void watch_borders(void)
{
    unsigned place, b;

    vm_n_watched = 0;
    watch(0);
    for (place = 0; place < PLACES_WATCHED; place++) {
        watch_mapping(vm_place(place));
    }
    for (b = 0; b < VM_BLOCKS; b++) {
        watch(vm_block_host(b));
        watch(vm_block_host(b) + vm_given.block[b].size - 1);
        watch(vm_block_host(b) + vm_given.block[b].size);
    }
}

/* A mapping is made where none was to be expected. */
void vm_watch_more(u64 start)
{
    unsigned w, before = vm_n_watched;

    watch_mapping(start);
    for (w = before; w < vm_n_watched; w++) {
        vm_page_begin(w);
    }
}

/* ---- runs ------------------------------------------------------------------------------------------------------------------ */

static unsigned run_once(const struct vm_given *given)
{
    memcpy(__start_vm_data, data, (size_t)(__stop_vm_data - __start_vm_data));
    heap_used = 0;
    vm_given = *given;
    runs++;
    if (!sigsetjmp(out, 0)) {
        vm_run();
    }
    return vm_violated;
}

unsigned vm_run_native(const struct vm_given *given)
{
    const unsigned violated = run_once(given), again = vm_again;

#if VM_CALLS > 1
    /* What ends the process is SURVIVES's, after other calls too. */
    if (again & VM(SURVIVES)) {
        return violated | VM(SURVIVES);
    }
    if (again) {
        static struct vm_given by_itself;
        unsigned f, alone;

        by_itself = *given;
        by_itself.call[0] = by_itself.call[1];
        by_itself.second = 0;
        for (f = 0; f < VM_FAULTS; f++) {
            by_itself.fault[f].used = 0;
        }
        alone = run_once(&by_itself);
        return violated | (again & alone) | (again & ~alone ? VM(REPEATABLE) : 0) | (alone & VM_LEFT);
    }
#endif
    return violated;
}

/* An input as it was read, whose pages to be watched are not set. */
static unsigned run(const struct vm_given *given)
{
    static struct vm_given watching;

    vm_given = *given;
    vm_n_watched = 0;
    if (!vm_is_given()) {
        return VM_NO_INPUT;
    }
    watch_borders();
    watching = vm_given;
    return vm_run_native(&watching);
}

/* The entries of the iovec, behind which is a page that cannot be read. */
static struct iovec *make_iovec(void)
{
    const size_t bytes = vm_page_up(sizeof(struct iovec) * VM_SEGMENTS);
    /* Not where the model has its mappings. */
    char *pages = mmap((void *)IOVEC, bytes + VM_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if ((u64)pages != IOVEC || mprotect(pages + bytes, VM_PAGE, PROT_NONE)) {
        perror("the iovec");
        exit(2);
    }
    return (struct iovec *)(pages + bytes) - VM_SEGMENTS;
}

/* What the spec asks of an input: the refusals, either, the length, and for each segment the memory at its beginning. */
static void write_expected(void)
{
    u64 words[3 + 2 * VM_SEGMENTS] = {0}, at = 0;
    struct vm_expected expected;
    unsigned i;

    vm_given = input;
    expected = vm_expect(0);
    words[0] = vm_is_given() ? expected.refusals : VM_NO_INPUT;
    words[1] = expected.either;
    words[2] = expected.length;
    for (i = 0; !expected.refusals && i < vm_given.call[0].n; i++) {
        int memory;

        vm_wanted(0, at, &memory, &words[4 + 2 * i]);
        words[3 + 2 * i] = (u64)memory;
        words[4 + 2 * i] += at;
        at += vm_page_up(vm_given.call[0].segment[i].length);
    }
    fwrite(words, sizeof(words), 1, stdout);
}

int main(int argc, char **argv)
{
    const bool expect = argc == 2 && !strcmp(argv[1], "expect");

    if ((size_t)(__stop_vm_data - __start_vm_data) > sizeof(data)) {
        fputs("the subject has too many variables\n", stderr);
        return 2;
    }
    memcpy(data, __start_vm_data, (size_t)(__stop_vm_data - __start_vm_data));
    vm_iovec = make_iovec();
    listen();
    if (argc == 5 && !strcmp(argv[1], "exhaust")) {
        vm_exhaust((unsigned)atoi(argv[2]), (unsigned)atoi(argv[3]), (unsigned)atoi(argv[4]));
        return 0;
    }
    while (fread(&input, sizeof(input), 1, stdin) == 1) {
        if (expect) {
            write_expected();
        } else {
            const unsigned answer = run(&input);

            runs = 0;
            fwrite(&answer, sizeof(answer), 1, stdout);
        }
    }
    return 0;
}
