/*
 * Which place of the subject's code called the world, and where it was when its process ended. Places are relative
 * to the subject's library, and so the same in every run; that of a call lies inside the call's instruction.
 *
 * The world is built with frame pointers: between an entry that the subject calls and its own functions lies a chain
 * of its own frames, which is followed without reading anything that the subject could have written.
 *
 * SPDX-License-Identifier: MIT
 */
#include <link.h>
#include <setjmp.h>
#include <string.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unwind.h>

#include "base/base.h"

#define OWN_FRAMES 32               /* of the world's own, at most, between an entry and vv_caller() */
#define ALL_FRAMES 4096             /* looked at when a process ends: a stack may have overflowed */

struct code { u64 base, start, end; };      /* a library's address, and its executable part */

static struct code subject, world;
static sigjmp_buf escape;
static volatile sig_atomic_t unwinding;

static bool within(const struct code *code, u64 address)
{
    return address >= code->start && address < code->end;
}

/* ---- which code is whose ------------------------------------------------------------------------------------ */

struct search { u64 address; struct code *found; };

static int look_at(struct dl_phdr_info *info, size_t size, void *data)
{
    const struct search *search = data;
    ElfW(Half) i;

    (void)size;
    for (i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        const struct code code = {info->dlpi_addr, info->dlpi_addr + part->p_vaddr,
                                  info->dlpi_addr + part->p_vaddr + part->p_memsz};

        if (part->p_type == PT_LOAD && (part->p_flags & PF_X) && within(&code, search->address)) {
            *search->found = code;
            return 1;
        }
    }
    return 0;
}

static void find_code(const void *function, struct code *found)
{
    struct search search = {(u64)function, found};

    memset(found, 0, sizeof(*found));
    dl_iterate_phdr(look_at, &search);
}

void vv_where_loaded(const void *entry)
{
    find_code((const void *)vv_caller, &world);
    find_code(entry, &subject);
}

/* ---- who calls ------------------------------------------------------------------------------------------------ */

__attribute__((noinline)) u64 vv_caller(void)
{
#if defined(__x86_64__) || defined(__aarch64__)
    const u64 *frame = __builtin_frame_address(0);
    int i;

    for (i = 0; subject.end && i < OWN_FRAMES; i++) {
        const u64 *next = (const u64 *)frame[0];

        if (within(&subject, frame[1])) {
            return frame[1] - 1 - subject.base;
        }
        /* What called from elsewhere, such as qsort(), need not keep frame pointers. */
        if (!within(&world, frame[1]) || next <= frame) {
            break;
        }
        frame = next;
    }
#endif
    return VV_NONE;
}

/* ---- what runs --------------------------------------------------------------------------------------------------- */

uint8_t *vv_covered;

/* Compiled into each block of a subject. Shared memory outlives a worker that crashes. */
VV_EXPORT void __sanitizer_cov_trace_pc(void)
{
    const u64 at = (u64)__builtin_return_address(0) - subject.base;

    if (at < VV_COVERED_BYTES && vv_covered) {
        vv_covered[at] = 1;
    }
}

/* ---- where a process ends ---------------------------------------------------------------------------------------- */

static void add_frame(u64 address)
{
    u64 *const n = &vv_progress->n_frames;

    if (within(&subject, address) && *n < VV_FRAMES) {
        vv_progress->frames[(*n)++] = address - subject.base;
    }
}

static _Unwind_Reason_Code on_frame(struct _Unwind_Context *context, void *data)
{
    int *left = data, exact = 0;
    const u64 address = _Unwind_GetIPInfo(context, &exact);

    add_frame(exact ? address : address - 1);       /* a return address lies behind its call */
    return --*left && vv_progress->n_frames < VV_FRAMES ? _URC_NO_REASON : _URC_END_OF_STACK;
}

static u64 read_word(u64 address)
{
    u64 word = 0;
    struct iovec own = {&word, sizeof(word)}, other = {(void *)address, sizeof(word)};

    return process_vm_readv(getpid(), &own, 1, &other, 1, 0) == sizeof(word) ? word : 0;
}

/* After a jump to nowhere: its place is the return address, and the frames below come next. */
static void from_registers(const ucontext_t *context)
{
    u64 frame = 0, next;
    int i;

#if defined(__x86_64__)
    add_frame(read_word((u64)context->uc_mcontext.gregs[REG_RSP]) - 1);
    frame = (u64)context->uc_mcontext.gregs[REG_RBP];
#elif defined(__aarch64__)
    add_frame(context->uc_mcontext.regs[30] - 1);
    frame = context->uc_mcontext.regs[29];
#else
    (void)context;
#endif
    for (i = 0; frame && i < ALL_FRAMES && vv_progress->n_frames < VV_FRAMES; i++) {
        add_frame(read_word(frame + sizeof(u64)) - 1);
        next = read_word(frame);
        frame = next > frame ? next : 0;
    }
}

void vv_where_give_up(void)
{
    if (unwinding) {
        siglongjmp(escape, 1);
    }
}

/* `context` is a signal handler's, or NULL. The stack may be overwritten: a signal while it is followed ends that. */
void vv_where_ended(const void *context)
{
    int left = ALL_FRAMES;

    vv_progress->n_frames = 0;
    if (!subject.end) {
        return;
    }
    if (sigsetjmp(escape, 1) == 0) {
        unwinding = 1;
        _Unwind_Backtrace(on_frame, &left);
    }
    unwinding = 0;
    if (!vv_progress->n_frames && context) {
        from_registers(context);
    }
}

/* ---- asked by the parent ------------------------------------------------------------------------------ */

static void on_question(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)info;
    vv_where_ended(context);
    vv_progress->frames_told = 1;
}

/* Signals that end a process, or ask where it is; once a worker, before its subject is loaded. */
void vv_where_arm(void (*on_end)(int, siginfo_t *, void *))
{
    static const int ends[] = {SIGABRT, SIGFPE, SIGILL, SIGTRAP};
    struct sigaction action = {.sa_flags = SA_SIGINFO | SA_ONSTACK};
    size_t i;

    action.sa_sigaction = on_end;
    for (i = 0; i < sizeof(ends) / sizeof(*ends); i++) {
        sigaction(ends[i], &action, NULL);
    }
    action.sa_sigaction = on_question;
    action.sa_flags |= SA_RESTART;
    sigaction(SIGRTMAX, &action, NULL);
}
