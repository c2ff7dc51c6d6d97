/*
 * The spec as a model in C: a small world in which a subject is called once or twice, and what each clause says of the
 * call. Two programs are made of it. CBMC takes it with every input left open, and decides the clauses for all values at
 * once. Compiled, it runs one input after another.
 *
 * It is written from the spec (../clauses.toml) and from the manuals of the kernel and of QEMU, and shares nothing with
 * the world in which `check` runs a subject, with its judge or with its model, but for the declarations of QEMU's names
 * in vfio_verify/include: they are an oracle each for the other.
 *
 *   given.c    which inputs there are
 *   layout.c   what the spec asks of a layout: refusals, and which memory each page must show
 *   kernel.c   the address space and descriptors, at the pages that are watched
 *   qemu.c     QEMU's objects and look-ups, its Error API, the heap
 *   call.c     the call, and the clauses
 *   cbmc.c     for CBMC: every input, and an assertion for each clause; question.h says which it is asked about
 *   native.c   a program that runs inputs as they come
 *   exhaust.c  or all of a small scope
 *   core.c     the core as a subject
 *
 * An address space is large, and what has to hold of it has to hold of each page. So only some pages are watched. With
 * CBMC it is one, and which one is open: what is proved of it is proved of all. A program watches all that there are in
 * its small layouts.
 *
 * SPDX-License-Identifier: MIT
 */
#pragma once

#include "vfio_verify/system.h"
#include "vfio_verify/call.h"
#include "vfio_verify/qemu.h"

/* What CBMC checks of C itself, it checks of the subject. */
#pragma CPROVER check push
#pragma CPROVER check disable "pointer"
#pragma CPROVER check disable "bounds"
#pragma CPROVER check disable "div-by-zero"

typedef uint32_t u32;
typedef uint64_t u64;

#ifndef VM_SEGMENTS
#define VM_SEGMENTS 2               /* at most, in the iovec */
#endif
#ifndef VM_FAULTS
#define VM_FAULTS 1                 /* planned ones */
#endif
#ifndef VM_CALLS
#define VM_CALLS 1                  /* 2: another one after it, which has no faults */
#endif
#ifndef VM_HAS_ERRP
#define VM_HAS_ERRP 1               /* 0: the subject has no place for an error */
#endif
#ifndef VM_WATCHED
#define VM_WATCHED 1                /* pages */
#endif

#define VM_PAGE 4096ull
#define VM_TASK_END (1ull << 47)    /* no page is beyond it */
static inline u64 vm_in_page(u64 bytes) { return bytes & (VM_PAGE - 1); }
static inline u64 vm_page_up(u64 bytes) { return (bytes + VM_PAGE - 1) & ~(VM_PAGE - 1); }

#define VM_DEVICES 2
#define VM_REGIONS 2
#define VM_AREAS 2                  /* of a region */
#define VM_BLOCKS 3                 /* two of areas, and one of plain RAM */
#define VM_PLAIN 2                  /* the one of plain RAM */
#define VM_NO_BLOCK 3               /* an address in no RAMBlock */
#define VM_INDEXES 9                /* of regions: as many as a PCI device has at least */
#ifndef VM_MOST_BYTES
#define VM_MOST_BYTES (1ull << 40)  /* of a region or a RAMBlock */
#endif

enum vm_step { VM_MMAP, VM_MUNMAP, VM_MPROTECT, VM_DUP, VM_CLOSE, VM_FIND_DEVICE, VM_FIND_BLOCK, VM_FIND_INDEX,
               VM_FIND_REGION, VM_REGION_INFO, VM_REGION_FD, VM_STEPS };

/* The clauses that are decided; a clause's bit in what vm_call() returns. */
#define VM_CLAUSES(X)                                                                                                 \
    X(CONTIGUOUS) X(CONTENTS) X(UNMAP_ON_ERROR) X(SAME_BLOCK) X(ACCEPTS_VALID) X(CONFINED) X(SIZE_AGREES)             \
    X(WITHIN_BLOCK) X(ALIGNED) X(NOT_EMPTY) X(READ_ONLY) X(NO_WINDOW) X(FAULT_REPORTED) X(ERROR_SET) X(NO_LEAK)       \
    X(REPEATABLE) X(SURVIVES)
enum {
#define VM_BIT(id) VM_BIT_##id,
    VM_CLAUSES(VM_BIT)
#undef VM_BIT
    VM_N_CLAUSES
};
#define VM(id) (1u << VM_BIT_##id)

/* ---- given.c: the input. All numbers are 64 bits wide, so that a program can be handed them as they are. ------------- */

enum vm_rule { VM_BY_REGION, VM_BY_AREAS, VM_BY_NOTHING };     /* what a device's driver refuses to map */
enum vm_msix { VM_NO_MSIX, VM_MSIX_CUT, VM_MSIX_MAPPABLE };

struct vm_given {
    struct { u64 rule, region_fds, region_files; } device[VM_DEVICES];
    struct { u64 device, index, size, offset, writable, sparse, msix, n_areas; } region[VM_REGIONS];
    struct { u64 offset, size; } area[VM_REGIONS][VM_AREAS];
    struct { u64 region, area, size, touches; } block[VM_BLOCKS];   /* the last one has no region or area */
    struct { u64 n, total_size; struct { u64 block, offset, length; } segment[VM_SEGMENTS]; } call[VM_CALLS];
    struct { u64 used, step, nth, error, late, persistent; } fault[VM_FAULTS];
    u64 null_errp, hints, noreplace, locks;
    u64 read_only;                  /* the devices' descriptors are open for reading only */
    u64 second, end_first;          /* with two calls: whether the second is made; the first mapping is ended before it */
    u64 watched[VM_WATCHED];        /* addresses */
};
extern struct vm_given vm_given;
#ifdef VM_NATIVE
extern unsigned vm_n_watched;       /* of them, those in use */
#else
#define vm_n_watched VM_WATCHED
#endif

bool vm_is_given(void);             /* whether the input is one that the world can have */
#define VM_MOST_ERRORS 13
extern const u64 vm_errors[VM_STEPS][VM_MOST_ERRORS];   /* what each step answers when it fails; 0 ends the list */

/* ---- layout.c: what the spec asks for -------------------------------------------------------------------------------- */

struct vm_expected { unsigned refusals; bool either; u64 length; };
struct vm_expected vm_expect(unsigned call);
u64 vm_block_host(unsigned block);
int vm_block_memory(unsigned block);        /* the file behind it; -1 for plain RAM */
u64 vm_block_offset(unsigned block);        /* where it begins in the file */
/* What the page at this place of the mapping must show: a file, from an offset in it that is `at` beyond `start`. */
void vm_wanted(unsigned call, u64 at, int *memory, u64 *start);

/* ---- kernel.c ----------------------------------------------------------------------------------------------------------- */

enum vm_state { VM_FREE, VM_FOREIGN, VM_HOLE, VM_ANONYMOUS, VM_FILE };

struct vm_watched {
    enum vm_state state;
    bool own;                       /* the subject mapped it, and has not unmapped it */
    bool freed;                     /* it did unmap it */
    bool window;                    /* and used it again */
    bool excused;                   /* an unmapping of it failed */
    int prot;
    bool shared;
    int memory;                     /* of VM_FILE: the file */
    u64 zero;                       /* the offset in it that address 0 would have: the page's own is in no sum then */
};
extern struct vm_watched vm_page[VM_WATCHED];

struct vm_failed_mmap { u64 start, bytes, length; int prot, flags, fd; u64 offset; bool again; };
struct vm_failed_look_up { enum vm_step step; u64 wanted, address, later; bool again, same_before; u64 before; };
#ifndef VM_MOST_FAILED
#define VM_MOST_FAILED 4
#endif

struct vm_kernel {
    bool failed, starved;
    unsigned n_failed_mmaps, n_failed_look_ups;
    struct vm_failed_mmap failed_mmap[VM_MOST_FAILED];
    struct vm_failed_look_up failed_look_up[VM_MOST_FAILED];
    unsigned leaks;                 /* what NO_LEAK says of at once: a foreign descriptor closed, one closed twice */
    int kept_fds, kept_blocks, kept_references, kept_locks;
};
extern struct vm_kernel vm_kernel;
extern unsigned vm_counts[VM_STEPS];        /* how often each was asked for */

u64 vm_place(unsigned number);              /* where a mapping is made that may be anywhere: the first one, and so on */
void vm_kernel_begin(void);
void vm_page_begin(unsigned watched);       /* before the first call */
void vm_next_call(void);                    /* which has no faults, and for which nothing is kept yet */
bool vm_fails(enum vm_step step, int *error, bool *late);     /* `late` is NULL for what fails in one way only */
int vm_device_fd(unsigned device);
int vm_region_fd(unsigned region);
int vm_end(u64 address, u64 length);        /* munmap() by the caller */

/* ---- qemu.c ------------------------------------------------------------------------------------------------------------- */

void vm_qemu_build(void);
void vm_qemu_begin(struct vv_call *call, unsigned number);
bool vm_error_left(void);

/* ---- call.c --------------------------------------------------------------------------------------------------------------- */

extern unsigned vm_violated;                /* clauses, as bits: by the first call, and while another is made, by that */
extern unsigned vm_again;                   /* by the second call; what a call by itself does not violate is REPEATABLE's */
extern unsigned vm_before;                  /* while the second call is made: by the first one */
extern bool vm_is_second;
void vm_violate(unsigned clauses);          /* and go on */
void vm_die(unsigned clauses) __attribute__((noreturn));      /* the process ends here */
void *vm_block(size_t bytes, bool zero);    /* of the heap; what is in it is nobody's choice unless it is zeroed */
void vm_return(void *block);
/* What the model does not have; `why` is a literal, after "the model does not have". */
#ifdef VM_NATIVE
void vm_leave(const char *why) __attribute__((noreturn));
#else
#define vm_leave(why) do { __CPROVER_assert(false, "LEFT " why); __CPROVER_assume(false); } while (false)
#endif
void vm_run(void);

#ifdef VM_NATIVE
void vm_watch_more(u64 start);              /* a mapping is made here, where none was to be expected */
extern struct iovec *vm_iovec;              /* nothing can be read behind its VM_SEGMENTS entries */
#endif
