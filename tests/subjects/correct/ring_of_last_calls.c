/* conforms | keeps the last 16 calls in a ring, and what it once looked up of the machine in a cache, under a lock */

#include <pthread.h>
#include <sys/mman.h>
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio/vfio-region.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    unsigned int iov_cnt;
    size_t total_size;
    bool failed;
} ring[16];
static unsigned int next_entry;
static size_t page_mask;

static inline void unlock(pthread_mutex_t **held)
{
    pthread_mutex_unlock(*held);
}

/* Of this call, and the lock is given back however it ends. */
static unsigned int note_call(unsigned int iov_cnt, size_t total_size)
{
    __attribute__((cleanup(unlock))) pthread_mutex_t *held = &lock;
    unsigned int entry;

    pthread_mutex_lock(held);
    if (!page_mask) {
        page_mask = qemu_real_host_page_size() - 1;
    }
    entry = next_entry++ % ARRAY_SIZE(ring);
    ring[entry].iov_cnt = iov_cnt;
    ring[entry].total_size = total_size;
    ring[entry].failed = true;
    return entry;
}

static void note_success(unsigned int entry)
{
    __attribute__((cleanup(unlock))) pthread_mutex_t *held = &lock;

    pthread_mutex_lock(held);
    ring[entry].failed = false;
}

static VFIORegion *region_of(const struct iovec *iov, unsigned int iov_cnt, size_t total_size,
                             RAMBlock **block, Error **errp)
{
    VFIORegion *region;
    size_t bytes = 0;

    *block = NULL;
    for (unsigned int i = 0; i < iov_cnt; i++) {
        ram_addr_t offset;
        RAMBlock *rb = qemu_ram_block_from_host(iov[i].iov_base, false, &offset);

        if (!rb || (*block && rb != *block) || (offset & page_mask) ||
            iov[i].iov_len == 0 || (iov[i].iov_len & page_mask) ||
            iov[i].iov_len > rb->max_length - offset ||
            __builtin_add_overflow(bytes, iov[i].iov_len, &bytes)) {
            error_setg(errp, "entry %u cannot be mapped", i);
            return NULL;
        }
        *block = rb;
    }
    if (!*block || bytes != total_size) {
        error_setg(errp, "%u entries of %zu bytes, not %zu", iov_cnt, bytes, total_size);
        return NULL;
    }
    region = vfio_get_region_from_mr((*block)->mr);
    if (!region) {
        error_setg(errp, "not the memory of a VFIO region");
    }
    return region;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    unsigned int entry = note_call(iov_cnt, total_size);
    VFIORegion *region;
    RAMBlock *rb;
    char *map, *at;
    int fd;

    region = region_of(iov, iov_cnt, total_size, &rb, errp);
    if (!region) {
        return false;
    }
    fd = vfio_device_get_region_fd(region->vbasedev, region->nr);
    if (fd < 0) {
        error_setg(errp, "no descriptor for region %d", region->nr);
        return false;
    }
    map = at = mmap(NULL, total_size, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        error_setg_errno(errp, errno, "no room for %zu bytes", total_size);
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        off_t offset = region->fd_offset + rb->mr->addr + ((uint8_t *)iov[i].iov_base - rb->host);

        if (mmap(at, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED, fd, offset) == MAP_FAILED) {
            error_setg_errno(errp, errno, "entry %u", i);
            munmap(map, total_size);
            return false;
        }
        at += iov[i].iov_len;
    }
    note_success(entry);
    *addr = map;
    return true;
}
