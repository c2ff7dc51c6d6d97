/* conforms | works in one of 64 static slots, which it takes from a list of free ones and puts back on every path */

#include <pthread.h>
#include <sys/mman.h>
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio/vfio-region.h"

typedef struct Slot {
    struct Slot *next;
    RAMBlock *block;
    size_t bytes;
    int fd;
    off_t start;
} Slot;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Slot slots[64], *free_slots;
static unsigned int n_used;

static Slot *take_slot(void)
{
    Slot *slot;

    pthread_mutex_lock(&lock);
    slot = free_slots;
    if (slot) {
        free_slots = slot->next;
    } else if (n_used < ARRAY_SIZE(slots)) {
        slot = &slots[n_used++];
    }
    pthread_mutex_unlock(&lock);
    if (slot) {
        *slot = (Slot) { .fd = -1 };
    }
    return slot;
}

static void put_slot(Slot *slot)
{
    pthread_mutex_lock(&lock);
    slot->next = free_slots;
    free_slots = slot;
    pthread_mutex_unlock(&lock);
}

static bool fill_slot(Slot *slot, const struct iovec *iov, unsigned int iov_cnt, Error **errp)
{
    const size_t page = qemu_real_host_page_size();
    VFIORegion *region;

    for (unsigned int i = 0; i < iov_cnt; i++) {
        ram_addr_t offset;
        RAMBlock *rb = qemu_ram_block_from_host(iov[i].iov_base, false, &offset);

        if (!rb || (slot->block && rb != slot->block) || offset % page ||
            iov[i].iov_len == 0 || iov[i].iov_len % page ||
            iov[i].iov_len > rb->max_length - offset ||
            __builtin_add_overflow(slot->bytes, iov[i].iov_len, &slot->bytes)) {
            error_setg(errp, "entry %u cannot be mapped", i);
            return false;
        }
        slot->block = rb;
    }
    region = slot->block ? vfio_get_region_from_mr(slot->block->mr) : NULL;
    slot->fd = region ? vfio_device_get_region_fd(region->vbasedev, region->nr) : -1;
    if (slot->fd < 0) {
        error_setg(errp, "not the memory of a VFIO region");
        return false;
    }
    slot->start = region->fd_offset + slot->block->mr->addr;
    return true;
}

static void *map_slot(const Slot *slot, const struct iovec *iov, unsigned int iov_cnt, Error **errp)
{
    char *map, *at;

    map = at = mmap(NULL, slot->bytes, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        error_setg_errno(errp, errno, "no room for %zu bytes", slot->bytes);
        return NULL;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        off_t offset = slot->start + ((uint8_t *)iov[i].iov_base - slot->block->host);

        if (mmap(at, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED, slot->fd, offset) == MAP_FAILED) {
            error_setg_errno(errp, errno, "entry %u", i);
            munmap(map, slot->bytes);
            return NULL;
        }
        at += iov[i].iov_len;
    }
    return map;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    Slot *slot = take_slot();
    void *map = NULL;

    if (!slot) {
        error_setg(errp, "too many calls at once");
        return false;
    }
    if (fill_slot(slot, iov, iov_cnt, errp)) {
        if (slot->bytes == total_size) {
            map = map_slot(slot, iov, iov_cnt, errp);
        } else {
            error_setg(errp, "entries have %zu bytes, not %zu", slot->bytes, total_size);
        }
    }
    put_slot(slot);
    if (map) {
        *addr = map;
    }
    return map != NULL;
}
