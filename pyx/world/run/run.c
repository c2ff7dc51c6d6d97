/*
 * One request: a layout, and the fault plans under which the subject is to be called on it. For
 * each plan one record goes into the reply, after a head. Between the two looks at the address space nothing
 * changes it but the subject: all memory is there before, and records are built in place.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

#define MAX_VMAS (VV_MAX_SEGMENTS + 16)
#define MAX_STRAYS 64
#define MAX_DIFFERENCES 32
#define MESSAGE_BYTES 4096
#define SIGNAL_STACK (64u << 10)
#define UNFIT (-3)                  /* the kernel fault cannot be set up here, or not be taken away */
#define STACK_TOUCHED ((7u << 20) + (512u << 10))    /* nearly all of the 8 MiB that a worker has: serve.c */

vv_entry vv_subject, vv_subject_patterned, vv_subject_zeroed;

static uint8_t *signal_stack;
struct vv_vma *vv_first_runs;
static struct vv_vma *other_vmas;   /* room for a mapping's runs, as at vv_first_runs */

/* ---- a process ready for subjects ---------------------------------------------------------------- */

/* A signal while contents are read is an answer. Any other is the subject's end: its place is left for
 * the parent, and the signal comes again with its default action. */
static void on_signal(int number, siginfo_t *info, void *context)
{
    if (vv_where_unwinding()) {
        vv_where_give_up();
    }
    if (vv_probing) {
        siglongjmp(vv_probe_escape, 1);
    }
    vv_threads_died();
    vv_progress->signal = (u64)number;
    /* The processor tells no address for one that is not canonical, such as an uninitialised pointer's. */
    vv_progress->signal_address = info->si_code == SI_KERNEL ? VV_NONE : (u64)info->si_addr;
    vv_where_ended(context);
    signal(number, SIG_DFL);
}

/* An end by a signal that tells no address. */
static void on_end(int number, siginfo_t *info, void *context)
{
    (void)info;
    vv_threads_died();
    vv_where_ended(context);
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

/* The stack's mapping grows when it is first used deeply; have it grown before a snapshot. */
static __attribute__((noinline)) void grow_stack(void)
{
    volatile char deep[STACK_TOUCHED];
    size_t i;

    for (i = 0; i < sizeof(deep); i += 4096) {
        deep[i] = 0;
    }
}

int vv_after_fork(void)
{
    stack_t stack = {.ss_sp = signal_stack, .ss_size = SIGNAL_STACK};

    vv_kernel_init();
    vv_memory_reopen();
    vv_forget_stamps();
    return sigaltstack(&stack, NULL) < 0 ? -1 : vv_observe_init();
}

int vv_start(void)
{
    if (vv_memory_init() < 0) {
        return -1;
    }
    if (!signal_stack) {
        signal_stack = vv_room(SIGNAL_STACK);
        vv_first_runs = vv_room(MAX_VMAS * sizeof(*vv_first_runs));
        other_vmas = vv_room(MAX_VMAS * sizeof(*other_vmas));
        if (!signal_stack || !vv_first_runs || !other_vmas) {
            return -1;
        }
        grow_stack();           /* children inherit it */
    }
    return vv_after_fork();
}

/* ---- requests ------------------------------------------------------------------------------------- */

const void *vv_take(struct vv_cursor *cursor, u64 count, size_t size)
{
    const void *here = cursor->at;

    if (count > (u64)(cursor->end - cursor->at) / (size / sizeof(u64))) {
        return NULL;
    }
    cursor->at += count * (size / sizeof(u64));
    return here;
}

#define TAKE(field, limit)                                                                      \
    ((layout->n_##field = request->n_##field) <= (limit)                                       \
     && (layout->field = vv_take(cursor, layout->n_##field, sizeof(*layout->field))) != NULL)

/* The parent checks a case before it sends it; this guards the harness against its own mistakes. */
bool vv_read_layout(const struct vv_request *request, struct vv_cursor *cursor, struct vv_layout *layout)
{
    u64 i;

    layout->total_size = request->total_size;
    layout->null_errp = request->null_errp;
    layout->kernel_rules = request->kernel_rules;
    layout->page_size = request->page_size;
    layout->zeroed = request->flags & VV_ZEROED;
    if (layout->page_size % vv_page_size || !layout->page_size || (layout->page_size & (layout->page_size - 1))) {
        return false;
    }
    if (!TAKE(devices, VV_MAX_DEVICES) || !TAKE(regions, VV_MAX_REGIONS) || !TAKE(areas, VV_MAX_AREAS)
        || !TAKE(blocks, VV_MAX_BLOCKS) || !TAKE(segments, VV_MAX_SEGMENTS)) {
        return false;
    }
    for (i = 0; i < layout->n_regions; i++) {
        if (layout->regions[i].device >= layout->n_devices || !vv_is_device_memory(layout->regions[i].memory)) {
            return false;
        }
    }
    for (i = 0; i < layout->n_areas; i++) {
        if (layout->areas[i].region >= layout->n_regions) {
            return false;
        }
    }
    for (i = 0; i < layout->n_blocks; i++) {
        if (layout->blocks[i].area != VV_NONE && layout->blocks[i].area >= layout->n_areas) {
            return false;
        }
    }
    for (i = 0; i < layout->n_segments; i++) {
        if (layout->segments[i].block != VV_NONE && layout->segments[i].block >= layout->n_blocks) {
            return false;
        }
    }
    return true;
}

/* Can the segments be overlaid exactly at all, so that their contents can be told? */
bool vv_comparable(const struct vv_layout *layout)
{
    u64 i;

    for (i = 0; i < layout->n_segments; i++) {
        const struct vv_segment *s = &layout->segments[i];

        if (s->block == VV_NONE || s->offset % vv_host_page || !s->length
            || (s->length % vv_host_page && i + 1 < layout->n_segments)
            || s->offset > layout->blocks[s->block].size
            || s->length > layout->blocks[s->block].size - s->offset) {
            return false;
        }
    }
    return layout->n_segments > 0;
}

/* ---- one run ---------------------------------------------------------------------------------------- */

static void call_subject(struct vv_call *call)
{
    const struct vv_layout *layout = &vv_world.layout;
    const pid_t caller = getpid();

    vv_fill_iov();
    call->iov = vv_world.iov;
    call->iov_cnt = (unsigned int)layout->n_segments;
    call->total_size = layout->total_size;
    call->mapped = 0;
    call->address = NULL;
    vv_qemu_before_call(call);
    vv_progress->in_subject++;
    vv_kernel_before_call();
    vv_calls.active = true;
    vv_subject(call);
    if (getpid() != caller) {
        _exit(0);               /* a child that the subject forked: only its parent answers */
    }
    vv_calls.active = false;
    vv_kernel_after_call();
    vv_progress->in_subject = 0;
}

/* How many bytes from address on are looked at: the total, unless the address is no address. */
u64 vv_visible_bytes(u64 address, u64 total)
{
    const u64 bytes = page_up(total);

    return address % vv_page_size == 0 && bytes >= total && address + bytes >= address && address + bytes < 1ull << 56
           && !vv_memory_in_arena(address) ? bytes : 0;
}

static bool same_runs(const struct vv_vma *a, u64 n_a, u64 base_a, const struct vv_vma *b, u64 n_b, u64 base_b)
{
    u64 i;

    for (i = 0; n_a == n_b && i < n_a; i++) {
        if (a[i].start - base_a != b[i].start - base_b || a[i].end - base_a != b[i].end - base_b
            || a[i].flags != b[i].flags || a[i].memory != b[i].memory || a[i].offset != b[i].offset) {
            return false;
        }
    }
    return n_a == n_b;
}

/* The same call again: a second mapping, independent of the first; ending it leaves the first whole. */
static void call_twice(struct vv_record *record, struct vv_call *call, u64 n_first, bool compare)
{
    const u64 first = record->address, total = vv_world.layout.total_size;
    const u64 bytes = vv_visible_bytes(first, total);
    struct vv_difference unused[1];
    struct vv_contents contents = {.out = unused, .max = 1};
    u64 second, n, gone;

    vv_calls_again();
    vv_fds_before_call();
    vv_progress->in_subject = 1;
    call_subject(call);
    second = (u64)call->address;
    record->second_called = 1;
    record->second_flags_union = vv_calls.flags_union | (vv_fds_left(&gone) || gone ? VV_LEFT_OPEN : 0);
    record->second_mapped = (u64)call->mapped;
    record->second_address = second;
    vv_observe_refresh(false);
    if (call->mapped && vv_visible_bytes(second, total)) {
        n = vv_observe_range(second, second + bytes, other_vmas, MAX_VMAS);
        record->second_like_first = same_runs(vv_first_runs, n_first, first, other_vmas, n, second)
                                    && (second >= first + bytes || first >= second + bytes);
        if (compare && record->second_like_first) {
            vv_compare_contents(second, false, &contents);
            record->second_differences = contents.n;
        }
        if (record->second_like_first) {        /* as the caller ends a mapping */
            vv_calls.active = true;
            vv_munmap((void *)second, total);
            vv_calls.active = false;
        }
    }
    vv_observe_refresh(false);
    n = vv_observe_range(first, first + bytes, other_vmas, MAX_VMAS);
    record->first_whole_after = same_runs(vv_first_runs, n_first, first, other_vmas, n, first);
    if (compare && record->first_whole_after) {
        contents.n = 0;
        vv_compare_contents(first, false, &contents);
        record->first_differences_after = contents.n;
    }
}

/* What the subject holds outside the mapping that it returned, and outside those of a session's earlier calls. */
static u64 find_strays(struct vv_vma *out, u64 max, u64 start, u64 end)
{
    u64 i, at, next, n = 0;
    bool returned;

    for (i = 0; i < vv_calls.n_owned && n < max; i++) {
        for (at = vv_calls.owned[i].start; at < vv_calls.owned[i].end && n < max; at = next) {
            next = vv_part_end(at, vv_calls.owned[i].end, (struct vv_range){start, end}, &returned);
            if (!returned) {
                n += vv_observe_range(at, next, out + n, max - n);
            }
        }
    }
    return n;
}

/* Copies runs into the record, relative to its base. */
static uint8_t *put_vmas(const struct vv_record *record, uint8_t *at, const struct vv_vma *vmas, u64 n)
{
    struct vv_vma *out = (struct vv_vma *)at;
    u64 i;

    for (i = 0; i < n; i++) {
        out[i] = vmas[i];
        out[i].start -= record->base;
        out[i].end -= record->base;
    }
    return at + n * sizeof(*vmas);
}

static void record_references(struct vv_record *record)
{
    u64 i;

    record->references_kept = record->references_dropped = 0;
    record->read_locks = vv_calls.read_locks;
    record->reference_at = VV_NONE;
    for (i = 0; i < vv_calls.n_references; i++) {
        const struct vv_reference *reference = &vv_calls.references[i];

        record->references_kept += (u64)(reference->count > 0 ? reference->count : 0);
        record->references_dropped += (u64)-reference->lowest;
        if (record->reference_at == VV_NONE && (reference->count > 0 || reference->lowest < 0)) {
            record->reference_at = reference->lowest < 0 ? reference->dropped_at : reference->taken_at;
        }
    }
}

u64 vv_record_call(struct vv_record *record, struct vv_call *call, u64 max_runs, bool bare, bool compare)
{
    struct vv_event *events = (struct vv_event *)(record + 1);
    struct vv_difference differences[MAX_DIFFERENCES];
    struct vv_vma strays[MAX_STRAYS];
    struct vv_contents contents = {.out = differences, .max = MAX_DIFFERENCES};
    struct vv_error_report error = {0};
    u64 visible = 0, n_vmas = 0;
    uint8_t *at;

    record->mapped = (u64)(call->mapped != 0);
    record->address = (u64)call->address;
    record->base = call->mapped ? record->address : vv_calls.first_reservation;
    vv_qemu_after_call(call, &error);
    record->error_given = error.given;
    record->error_left = error.left;
    record->error_sets = error.sets;
    memcpy(record->error_at, error.at, sizeof(record->error_at));
    record->heap_at = record->free_at = VV_NONE;
    record->message_bytes = error.length < MESSAGE_BYTES ? error.length : MESSAGE_BYTES;
    record->n_events = vv_calls.n_events;
    record->events_dropped = vv_calls.dropped;
    record->flags_union = vv_calls.flags_union;
    memcpy(record->counts, vv_calls.counts, sizeof(record->counts));
    record_references(record);
    if (vv_calls.events != events) {
        memcpy(events, vv_calls.events, record->n_events * sizeof(*events));
    }

    at = (uint8_t *)(events + record->n_events);
    if (record->mapped && !bare) {
        visible = vv_visible_bytes(record->address, vv_world.layout.total_size);
        n_vmas = vv_observe_range(record->address, record->address + visible, vv_first_runs, max_runs);
        if (compare && visible && vv_kernel.kind == VV_TRUNCATED) {
            vv_compare_gone(record->address, &contents);
        } else if (compare && visible) {
            vv_compare_contents(record->address, true, &contents);
        }
    }
    record->n_strays = bare ? 0 : find_strays(strays, MAX_STRAYS, record->base, record->base + visible);
    at = put_vmas(record, at, vv_first_runs, n_vmas);
    at = put_vmas(record, at, strays, record->n_strays);
    record->n_vmas = n_vmas;
    record->n_differences = contents.n < MAX_DIFFERENCES ? contents.n : MAX_DIFFERENCES;
    record->pages_compared = contents.pages_compared;
    record->pages_total = contents.pages_total;
    memcpy(at, differences, record->n_differences * sizeof(*differences));
    at += record->n_differences * sizeof(*differences);
    if (error.message) {
        memcpy(at, error.message, record->message_bytes);
    }
    at += (record->message_bytes + 7) & ~7ull;
    record->bytes = (u64)(at - (uint8_t *)record);
    return n_vmas;
}

void vv_run_plan(struct vv_record *record, u64 capacity, const struct vv_fault *faults, u64 n_faults, u64 flags,
                 bool compare)
{
    /* What follows the events is known in size beforehand, but for the runs: at most as many again. */
    const u64 rest = sizeof(*record) + MAX_VMAS * sizeof(struct vv_vma) + MAX_STRAYS * sizeof(struct vv_vma)
                     + MAX_DIFFERENCES * sizeof(struct vv_difference) + MESSAGE_BYTES;
    const u64 total = vv_world.layout.total_size;
    const u64 n_owned = flags & VV_KEEP ? vv_calls.n_owned : 0;
    struct vv_event *events = (struct vv_event *)(record + 1);
    struct vv_heap_report heap;
    struct vv_call call = {0};
    u64 n_runs;

    memset(record, 0, sizeof(*record));
    vv_heap_reset();
    vv_calls_begin(events, capacity > rest ? (capacity - rest) / sizeof(*events) : 0, faults, n_faults);
    vv_calls.n_owned = n_owned;
    vv_arm_signals();
    vv_observe_refresh(false);
    record->lowest_fd_before = (u64)vv_lowest_free_fd();
    vv_fds_before_call();
    record->pages_before = vv_process_pages();

    call_subject(&call);

    record->left = vv_state_left();     /* before the pages: a thread that is just ending has a stack */
    record->pages_after = vv_process_pages();
    if (record->pages_after != record->pages_before + (call.mapped ? page_up(total) / vv_page_size : 0)) {
        vv_state_flush_stacks();
        record->pages_after = vv_process_pages();
    }
    record->lowest_fd_after = (u64)vv_lowest_free_fd();
    record->fds_left = vv_fds_left(&record->fds_gone);
    vv_arm_signals();           /* the subject may have changed them */
    vv_observe_refresh(false);
    n_runs = vv_record_call(record, &call, MAX_VMAS, flags & VV_BARE, compare);
    vv_heap_report(&heap);
    record->heap_live = heap.live;
    record->heap_live_bytes = heap.live_bytes;
    record->cached_frees = heap.cached_frees;
    record->bad_frees = heap.bad_frees;
    record->heap_at = heap.live ? vv_heap_at() : VV_NONE;
    record->free_at = vv_heap_free_at();

    if (record->mapped && (flags & VV_TWICE) && !n_faults && !vv_kernel.kind
        && vv_visible_bytes(record->address, total)) {
        call_twice(record, &call, n_runs, compare && !record->n_differences);
    }
    if (!(flags & VV_KEEP)) {
        vv_calls_release();
        vv_fds_release();
    }
    record->pages_end = vv_process_pages();
}

/* What addresses and descriptors mean: the number of RAM blocks, the descriptors of the devices, of regions
 * that have one of their own and of plain RAM, and the blocks' addresses. */
u64 vv_put_head(u64 *reply, const struct vv_layout *layout)
{
    u64 n = 0, i;

    reply[n++] = layout->n_blocks;
    for (i = 0; i < VV_DEVICE_FILES; i++) {
        reply[n++] = (u64)vv_world.device_fd[i];
    }
    reply[n++] = (u64)vv_world.ram_fd;
    for (i = 0; i < layout->n_blocks; i++) {
        reply[n++] = (u64)vv_world.block_host[i];
    }
    vv_progress->reply_bytes = n * sizeof(*reply);
    return n * sizeof(*reply);
}

static u64 head_bytes(const struct vv_layout *layout)
{
    return (1 + VV_DEVICE_FILES + 1 + layout->n_blocks) * sizeof(u64);
}

int64_t vv_run_request(const u64 *bytes, u64 request_bytes, uint8_t *reply, u64 capacity)
{
    struct vv_cursor cursor = {bytes + sizeof(struct vv_request) / sizeof(u64), bytes + request_bytes / sizeof(u64)};
    const struct vv_request *request = (const struct vv_request *)bytes;
    struct vv_layout layout;
    uint8_t *at = reply;
    bool compare;
    u64 i;

    if (request_bytes >= sizeof(*request) && request->magic == VV_SESSION_MAGIC) {
        return vv_session_request(bytes, request_bytes, reply, capacity);
    }
    vv_session_end();
    if (request_bytes >= sizeof(u64) && request->magic == VV_THREADS_MAGIC) {
        return vv_run_threads(bytes, request_bytes, reply, capacity);
    }
    if (request_bytes < sizeof(*request) || request->magic != VV_REQUEST_MAGIC
        || request->kernel_kind >= VV_KERNEL_KINDS || !vv_read_layout(request, &cursor, &layout)) {
        errno = EBADMSG;
        return -1;
    }
    if (capacity < head_bytes(&layout)) {
        errno = ENOBUFS;
        return -1;
    }
    vv_progress_begin();
    if (vv_kernel_prepare(request->kernel_kind, request->kernel_at, layout.n_segments) < 0) {
        return UNFIT;
    }
    if (vv_memory_build(&layout) < 0) {
        return -1;
    }
    vv_qemu_build();
    /* What stands in huge pages cannot be written beforehand: there may be none. Their places tell enough. */
    compare = vv_comparable(&layout) && !(request->flags & VV_BARE) && request->kernel_kind != VV_HUGETLB;
    if (compare) {
        vv_stamp_layout();
    }
    at += vv_put_head((u64 *)(void *)reply, &layout);
    vv_observe_refresh(request->flags & VV_PARSE_MAPS);
    vv_snapshot_take();
    vv_fds_begin();
    for (i = 0; i < request->n_plans; i++) {
        struct vv_record *record = (struct vv_record *)at;
        const u64 room_left = capacity - (u64)(at - reply);
        const u64 *n_faults = vv_take(&cursor, 1, sizeof(u64));
        const struct vv_fault *faults = n_faults ? vv_take(&cursor, *n_faults, sizeof(*faults)) : NULL;

        if (!n_faults || (*n_faults && !faults)) {
            errno = EBADMSG;
            return -1;
        }
        if (room_left < sizeof(*record) + (MAX_VMAS + MAX_STRAYS) * sizeof(struct vv_vma) + (1u << 20)) {
            break;              /* the parent asks again for what is missing */
        }
        vv_progress->plan = i;
        vv_progress->n_events = vv_progress->reservation = 0;
        vv_progress->error_at[0] = vv_progress->error_at[1] = VV_NONE;
        vv_run_plan(record, room_left, faults, *n_faults, request->flags, compare);
        if (record->events_dropped && i) {
            break;              /* alone in a reply its trace has room */
        }
        at += record->bytes;
        vv_progress->finished = i + 1;
        vv_progress->reply_bytes = (u64)(at - reply);
        if (record->left) {
            break;              /* what follows belongs into another process */
        }
    }
    vv_progress->changes = vv_snapshot_changes();
    if (vv_kernel_finish() < 0) {
        vv_progress->finished = vv_progress->reply_bytes = 0;
        return UNFIT;
    }
    return at - reply;
}
