/*
 * A session: calls of the subject, and what happens between them, in one world whose mappings live on
 * until they are ended or the session is. After each action all of them are looked at.
 *
 * A session's request may carry all its actions, or some: the next request goes on where it stopped.
 * So nothing here points into a request once it is answered.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <string.h>
#include <sys/wait.h>

#include "base/base.h"
#include "memory/memory.h"
#include "observe/observe.h"
#include "run/run.h"
#include "session.h"
#include "steps/steps.h"

#define MAX_CALLS 65            /* MAX_CALLS of vfio_verify/values/case.py, and the case's own */
#define MAX_DIFFERENCES 8       /* of a mapping, in one look */
#define SPARE_VMAS 16           /* of a mapping, besides one for each segment */
#define EVENTS_A_SEGMENT 8      /* for which a call's reply has room */
#define CALL_BYTES (8u << 20)   /* of a call's reply, for its runs and the rest */

enum child_status { CHILD_WHOLE, CHILD_DIFFERS };      /* the last: plus the mapping's call */

struct mapping {
    u64 call, address, bytes;   /* bytes: that are looked at */
    struct vv_iovec iovec;
    bool compared;
};

struct call_request {
    struct vv_iovec iovec;
    const struct vv_fault *faults;
    u64 n_faults;
};

static bool is_open;
static struct {
    struct vv_device devices[VV_MAX_DEVICES];
    struct vv_region regions[VV_MAX_REGIONS];
    struct vv_area areas[VV_MAX_AREAS];
    struct vv_block blocks[VV_MAX_BLOCKS];
} layout_copy;
static struct vv_segment *segments;         /* of all calls */
static u64 n_segments, n_calls;
static struct mapping mappings[MAX_CALLS];
static u64 n_mappings;

/* ---- what the caller has -------------------------------------------------------------------------- */

/* A scope that knows the mappings which the caller has. */
static struct vv_scope with_mappings(void)
{
    static struct vv_range kept[MAX_CALLS];
    u64 i;

    for (i = 0; i < n_mappings; i++) {
        kept[i] = (struct vv_range){mappings[i].address, mappings[i].address + mappings[i].bytes};
    }
    return (struct vv_scope){.kept = kept, .n_kept = n_mappings};
}

static void unmap(u64 address, u64 bytes)
{
    vv_calls_again();
    vv_unmap_as_caller(address, bytes);
}

/* A call is judged for what it left behind. The next call must not be judged for it again. */
static void unmap_remains(void)
{
    const struct vv_scope scope = with_mappings();
    u64 i, at, end, tries = 2 * sizeof(vv_calls.owned) / sizeof(*vv_calls.owned);
    bool returned;

    for (i = 0; i < vv_calls.n_owned && tries; i++, tries--) {
        for (at = vv_calls.owned[i].start; at < vv_calls.owned[i].end; at = end) {
            end = vv_part_end(at, vv_calls.owned[i].end, (struct vv_range){0, 0}, &scope, &returned);
            if (!returned) {
                unmap(at, end - at);
                i = VV_NONE;        /* the ranges are others now: from the first one again */
                break;
            }
        }
    }
}

static struct mapping *mapping_of(u64 call)
{
    u64 i;

    for (i = 0; i < n_mappings; i++) {
        if (mappings[i].call == call) {
            return &mappings[i];
        }
    }
    return NULL;
}

void vv_session_end(void)
{
    if (is_open) {
        vv_release_owned();
        vv_fds_release();
        vv_restore_words();
        n_mappings = n_segments = n_calls = 0;
        is_open = false;
    }
}

/* ---- looking ----------------------------------------------------------------------------------------- */

static uint8_t *look_at_mapping(uint8_t *at, const struct mapping *mapping)
{
    struct vv_mapping_look *look = (struct vv_mapping_look *)(void *)at;
    struct vv_vma *vmas = (struct vv_vma *)(look + 1);
    struct vv_contents contents = {.max = MAX_DIFFERENCES};
    u64 i;

    look->call = mapping->call;
    look->address = mapping->address;
    look->n_vmas = vv_observe_range(mapping->address, mapping->address + mapping->bytes, vmas,
                                    mapping->iovec.n + SPARE_VMAS);
    for (i = 0; i < look->n_vmas; i++) {
        vmas[i].start -= mapping->address;
        vmas[i].end -= mapping->address;
    }
    contents.out = (struct vv_difference *)(vmas + look->n_vmas);
    if (mapping->compared) {
        vv_compare_contents(&mapping->iovec, mapping->address, false, &contents);
    }
    look->n_differences = contents.n < MAX_DIFFERENCES ? contents.n : MAX_DIFFERENCES;
    look->pages_compared = contents.pages_compared;
    look->pages_total = contents.pages_total;
    return (uint8_t *)(contents.out + look->n_differences);
}

static uint8_t *finish_look(struct vv_look *look)
{
    uint8_t *at = (uint8_t *)(look + 1);
    u64 i;

    vv_observe_refresh(false);
    look->pages = vv_process_pages();
    look->n_mappings = n_mappings;
    for (i = 0; i < n_mappings; i++) {
        at = look_at_mapping(at, &mappings[i]);
    }
    look->bytes = (u64)(at - (uint8_t *)look);
    return at;
}

/* ---- actions --------------------------------------------------------------------------------------------- */

/* Copies the segments, since the request does not live as long as the mapping. */
static bool read_call(struct vv_cursor *cursor, const struct vv_action *action, struct call_request *call)
{
    if (!vv_read_iovec(cursor, vv_world.layout.n_blocks, action->a, action->b, &call->iovec)) {
        return false;
    }
    call->n_faults = action->c;
    call->faults = vv_take(cursor, call->n_faults, sizeof(*call->faults));
    if (!call->faults || call->iovec.n > VV_MAX_SEGMENTS - n_segments || n_calls == MAX_CALLS) {
        return false;
    }
    call->iovec.segments =
        memcpy(segments + n_segments, call->iovec.segments, call->iovec.n * sizeof(*call->iovec.segments));
    return true;
}

static uint8_t *do_call(uint8_t *at, u64 capacity, const struct call_request *call)
{
    struct vv_record *record = (struct vv_record *)(void *)at;
    struct vv_plan plan = {.faults = call->faults, .n_faults = call->n_faults, .keep = true, .scope = with_mappings()};
    u64 bytes;

    vv_take_iovec(&call->iovec);
    plan.scope.iovec = &call->iovec;
    plan.scope.max_runs = VV_MAX_VMAS;
    plan.scope.compare = vv_comparable(&vv_world.layout, &call->iovec) && vv_room_for_stamps(VV_COMPARED_PAGES);
    if (plan.scope.compare) {
        vv_stamp_iovec(&call->iovec);
    }
    n_segments += call->iovec.n;
    vv_run_plan(record, capacity, &plan);
    bytes = record->mapped ? vv_visible_bytes(record->address, call->iovec.total_size) : 0;
    if (bytes) {
        mappings[n_mappings++] =
            (struct mapping){n_calls, record->address, bytes, call->iovec, plan.scope.compare};
    }
    n_calls++;
    unmap_remains();
    return at + record->bytes;
}

static void end_mapping(struct vv_look *look, u64 call)
{
    struct mapping *mapping = mapping_of(call), ended;
    struct vv_vma left[2];

    if (mapping) {
        ended = *mapping;
        memmove(mapping, mapping + 1, (size_t)(mappings + --n_mappings - mapping) * sizeof(*mapping));
        unmap(ended.address, ended.iovec.total_size);
        vv_observe_refresh(false);
        look->left = vv_observe_range(ended.address, ended.address + ended.bytes, left, 2);
        look->done = 1;
    }
}

static void change_word(struct vv_look *look, u64 block, u64 offset)
{
    look->done = vv_change_word(vv_block_memory(block), vv_world.block_file_offset[block] + offset);
}

static void drop_block(struct vv_look *look, u64 block)
{
    look->done = layout_copy.blocks[block].size && vv_drop_block(block) == 0;
    layout_copy.blocks[block].size = 0;         /* no look-up finds it */
}

/* Whether a mapping in this process is as it is in the parent, of which `look` tells. A caller may have asked that a
 * child does not get it (MADV_DONTFORK, as QEMU does for guest RAM): then all of it is missing. */
static bool whole_in_child(uint8_t *scratch, const struct vv_mapping_look *look, const struct mapping *mapping)
{
    const struct vv_mapping_look *here = (const struct vv_mapping_look *)(const void *)scratch;
    const u64 bytes = (u64)(look_at_mapping(scratch, mapping) - scratch);
    const u64 there = sizeof(*look) + look->n_vmas * sizeof(struct vv_vma)
                      + look->n_differences * sizeof(struct vv_difference);

    return !here->n_vmas || (bytes == there && memcmp(here, look, bytes) == 0);
}

/* The same by reading alone, where a sandbox keeps a child from the list of its own mappings. */
static bool readable_in_child(uint8_t *scratch, const struct vv_mapping_look *look, const struct mapping *mapping)
{
    const struct vv_difference *there =
        (const struct vv_difference *)(const void *)((const struct vv_vma *)(const void *)(look + 1) + look->n_vmas);
    struct vv_difference *here = (struct vv_difference *)(void *)scratch;
    struct vv_contents contents = {.out = here, .max = MAX_DIFFERENCES};
    u64 i, n, missing = 0;

    if (!mapping->compared) {
        return true;
    }
    vv_compare_contents(&mapping->iovec, mapping->address, false, &contents);
    n = contents.n < MAX_DIFFERENCES ? contents.n : MAX_DIFFERENCES;
    for (i = 0; i < n; i++) {
        missing += here[i].kind == VV_UNREADABLE;
    }
    return (missing == n && contents.n == contents.pages_compared)
           || (n == look->n_differences && memcmp(here, there, n * sizeof(*here)) == 0);
}

static _Noreturn void look_in_child(const uint8_t *first, uint8_t *scratch)
{
    bool blind;
    u64 i;

    blind = vv_observe_init() < 0;
    vv_observe_refresh(false);
    for (i = 0; i < n_mappings; i++) {
        const struct vv_mapping_look *look = (const struct vv_mapping_look *)(const void *)first;

        if (!(blind ? readable_in_child : whole_in_child)(scratch, look, &mappings[i])) {
            _exit(CHILD_DIFFERS + (int)mappings[i].call);
        }
        first += sizeof(*look) + look->n_vmas * sizeof(struct vv_vma)
                 + look->n_differences * sizeof(struct vv_difference);
    }
    _exit(CHILD_WHOLE);
}

/* A child looks at every mapping and holds it against what the parent saw, which lies behind `look`. In the sandbox
 * this is the one call that can make a process, and the worker's parent decides on it (oversee.c). */
static void fork_and_look(struct vv_look *look, uint8_t *scratch)
{
    long child;
    int status;

    child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    if (child == 0) {
        look_in_child((const uint8_t *)(look + 1), scratch);
    }
    look->error = child < 0 ? (u64)errno : 0;
    if (child < 0) {
        return;
    }
    while (waitpid((pid_t)child, &status, 0) < 0) {
        if (errno != EINTR) {
            look->error = (u64)errno;       /* the subject has SIGCHLD ignored, say */
            return;
        }
    }
    if (WIFEXITED(status)) {
        look->done = 1;
        look->child = WEXITSTATUS(status) == CHILD_WHOLE ? 0 : (u64)WEXITSTATUS(status) - CHILD_DIFFERS + 1;
    }
}

static uint8_t *do_action(uint8_t *at, u64 capacity, const struct vv_action *action, const struct call_request *call)
{
    struct vv_look *look = (struct vv_look *)(void *)at;

    if (action->kind == VV_CALL) {
        at = do_call(at, capacity, call);
        look = (struct vv_look *)(void *)at;
    }
    memset(look, 0, sizeof(*look));
    look->done = action->kind == VV_CALL;
    switch (action->kind) {
    case VV_END:
        end_mapping(look, action->a);
        break;
    case VV_CHANGE:
        change_word(look, action->a, action->b);
        break;
    case VV_DROP:
        drop_block(look, action->a);
        break;
    case VV_FORK:
        fork_and_look(look, finish_look(look));
        break;
    }
    return finish_look(look);
}

/* ---- requests ------------------------------------------------------------------------------------------------- */

static bool known(const struct vv_action *action)
{
    switch (action->kind) {
    case VV_CALL: case VV_END: case VV_FORK:
        return true;
    case VV_CHANGE:
        return action->a < vv_world.layout.n_blocks && action->b % sizeof(u64) == 0
               && action->b < vv_world.layout.blocks[action->a].size;
    case VV_DROP:
        return action->a < vv_world.layout.n_blocks;
    }
    return false;
}

static int begin(const struct vv_request *request, struct vv_layout *layout)
{
    vv_session_end();
    if (!segments) {
        segments = vv_room(VV_MAX_SEGMENTS * sizeof(*segments));
        if (!segments) {
            return -1;
        }
    }
    memcpy(layout_copy.devices, layout->devices, layout->n_devices * sizeof(*layout->devices));
    memcpy(layout_copy.regions, layout->regions, layout->n_regions * sizeof(*layout->regions));
    memcpy(layout_copy.areas, layout->areas, layout->n_areas * sizeof(*layout->areas));
    memcpy(layout_copy.blocks, layout->blocks, layout->n_blocks * sizeof(*layout->blocks));
    layout->devices = layout_copy.devices;
    layout->regions = layout_copy.regions;
    layout->areas = layout_copy.areas;
    layout->blocks = layout_copy.blocks;
    layout->iovec.segments = segments;
    layout->iovec.n = 0;
    if (vv_build_world(layout, layout->page_size) < 0) {
        return -1;
    }
    vv_calls_begin(NULL, 0, NULL, 0);
    vv_observe_refresh(request->flags & VV_PARSE_MAPS);
    vv_snapshot_take();
    vv_fds_begin();
    is_open = true;
    return 0;
}

/* What the reply to an action needs at most; a trace may still be longer. */
static u64 room_for(const struct vv_action *action)
{
    const u64 look = n_segments * sizeof(struct vv_vma)
                     + n_mappings * (SPARE_VMAS * sizeof(struct vv_vma) + 16 * sizeof(struct vv_difference));

    return CALL_BYTES + 2 * look
           + (action->kind == VV_CALL ? action->a * (EVENTS_A_SEGMENT * sizeof(struct vv_event)) : 0);
}

int64_t vv_session_request(const u64 *bytes, u64 request_bytes, uint8_t *reply, u64 capacity)
{
    struct vv_cursor cursor = {bytes + sizeof(struct vv_request) / sizeof(u64), bytes + request_bytes / sizeof(u64)};
    const struct vv_request request = *(const struct vv_request *)bytes;
    struct vv_layout layout;
    uint8_t *at = reply;
    u64 i;

    vv_progress_begin();
    if (!vv_read_layout(&request, &cursor, &layout) || !(is_open || (request.flags & VV_FIRST))) {
        errno = EBADMSG;
        return -1;
    }
    if ((request.flags & VV_FIRST) && begin(&request, &layout) < 0) {
        return -1;
    }
    at += vv_put_head((u64 *)(void *)reply);
    for (i = 0; i < request.n_plans; i++) {
        const struct vv_action *action = vv_take(&cursor, 1, sizeof(*action));
        const u64 left = capacity - (u64)(at - reply);
        struct call_request call = {0};

        if (!action || !known(action)) {
            errno = EBADMSG;
            return -1;
        }
        if (i && left < room_for(action)) {
            break;              /* the parent asks again for what is missing */
        }
        if (action->kind == VV_CALL && !read_call(&cursor, action, &call)) {
            errno = EBADMSG;
            return -1;
        }
        vv_progress->plan = i;
        vv_progress->n_events = vv_progress->reservation = 0;
        at = do_action(at, left, action, &call);
        vv_progress->finished = i + 1;
        vv_progress->reply_bytes = (u64)(at - reply);
    }
    if (i == request.n_plans && (request.flags & VV_LAST)) {
        vv_session_end();
    }
    vv_progress->changes = vv_snapshot_changes();
    return at - reply;
}
