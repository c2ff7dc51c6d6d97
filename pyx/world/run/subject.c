/*
 * The subject of this process, and a process that is ready for it.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/base.h"
#include "memory/memory.h"
#include "observe/observe.h"
#include "qemu/qemu.h"
#include "run/run.h"
#include "steps/steps.h"

#define SIGNAL_STACK (64u << 10)
#define STACK_TOUCHED ((7u << 20) + (512u << 10))    /* nearly all of the 8 MiB that a worker has: serve.c */
#define HOLE (64u << 20)            /* smaller than what lies below a stack, or below the libraries */

vv_entry vv_subject;
static vv_entry patterned, zeroed;
static uint8_t *signal_stack;

void vv_subject_loaded(vv_entry entry, vv_entry entry_zeroed)
{
    vv_subject = patterned = entry;
    zeroed = entry_zeroed;
}

int vv_build_world(const struct vv_layout *layout, u64 align)
{
    if (vv_memory_build(layout, align) < 0) {
        return -1;
    }
    if (zeroed) {
        vv_subject = layout->zeroed ? zeroed : patterned;
    }
    vv_qemu_build();
    return 0;
}

/* ---- signals ------------------------------------------------------------------------------------------ */

/* A signal while contents are read is an answer. Any other is the subject's end: its place is left for
 * the parent, and the signal comes again with its default action. */
static void on_signal(int number, siginfo_t *info, void *context)
{
    vv_where_give_up();
    if (vv_probing) {
        siglongjmp(vv_probe_escape, 1);
    }
    vv_progress->signal = (u64)number;
    /* The processor tells no address for one that is not canonical, such as an uninitialised pointer's. */
    vv_progress->signal_address = info->si_code == SI_KERNEL ? VV_NONE : (u64)info->si_addr;
    vv_ends(context);
    signal(number, SIG_DFL);
}

/* An end by a signal that tells no address. */
static void on_end(int number, siginfo_t *info, void *context)
{
    (void)info;
    vv_ends(context);
    signal(number, SIG_DFL);
    raise(number);
}

void vv_arm_ends(void)
{
    vv_where_arm(on_end);
}

void vv_arm_signals(void)
{
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigset_t probed;

    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    /* The subject may have blocked them; then they would end the process. */
    sigemptyset(&probed);
    sigaddset(&probed, SIGSEGV);
    sigaddset(&probed, SIGBUS);
    pthread_sigmask(SIG_UNBLOCK, &probed, NULL);
}

/* ---- a process ready for subjects ---------------------------------------------------------------- */

/* The stack's mapping grows when it is first used deeply; have it grown before a snapshot. Where a compiler touches each
 * page of it, they are given back: each fork would copy their entries. */
static __attribute__((noinline)) void grow_stack(void)
{
    volatile char deep[STACK_TOUCHED];
    const u64 first = own_page_up((u64)deep), last = own_page_down((u64)deep + sizeof(deep));

    deep[0] = 0;
    madvise((void *)first, last - first, MADV_DONTNEED);
}

/* How large the holes between libraries are is each machine's. A subject's mapping that falls into one has no free place
 * beside it, where two that lie one beside the other show more. */
void vv_fill_holes(void)
{
    const u64 heap_end = (u64)sbrk(0);
    struct vv_vma vma;
    u64 end = 0;

    vv_observe_refresh(false);
    while (vv_vma_at_or_after(end, &vma) && vma.end > end) {
        if (end && end != heap_end && vma.start - end < HOLE) {
            void *const filler = vv_raw_mmap((void *)end, vma.start - end, PROT_NONE,
                                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

            if (filler != MAP_FAILED && filler != (void *)end) {
                vv_raw_munmap(filler, vma.start - end);     /* a kernel before 4.17 */
            }
        }
        end = vma.end;
    }
}

void vv_take_over(void)
{
    vv_memfds_reopen();
    vv_forget_stamps();
}

int vv_after_fork(void)
{
    stack_t stack = {.ss_sp = signal_stack, .ss_size = SIGNAL_STACK};

    return sigaltstack(&stack, NULL) < 0 ? -1 : vv_observe_init();
}

int vv_start(void)
{
    if (vv_memory_init() < 0 || vv_record_init() < 0) {
        return -1;
    }
    if (!signal_stack) {
        signal_stack = vv_room(SIGNAL_STACK);
        if (!signal_stack) {
            return -1;
        }
        grow_stack();           /* children inherit it */
        vv_kernel_init();
    }
    return vv_after_fork();
}
