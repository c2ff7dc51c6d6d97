/* conforms | keeps its state in static variables, and works on them under a mutex */

#include <pthread.h>
#include <sys/mman.h>
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio/vfio-region.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static RAMBlock *block;
static off_t offsets[1 << 16];
static char *base;

static bool collect(const struct iovec *iov, unsigned int iov_cnt,
                    size_t total_size, Error **errp)
{
    const size_t page = qemu_real_host_page_size();
    size_t sum = 0;

    block = NULL;
    for (unsigned int i = 0; i < iov_cnt; i++) {
        ram_addr_t offset;
        RAMBlock *rb = qemu_ram_block_from_host(iov[i].iov_base, false, &offset);

        if (!rb || (block && rb != block) || offset % page ||
            iov[i].iov_len == 0 || iov[i].iov_len % page ||
            iov[i].iov_len > rb->max_length - offset ||
            __builtin_add_overflow(sum, iov[i].iov_len, &sum)) {
            error_setg(errp, "entry %u cannot be mapped", i);
            return false;
        }
        block = rb;
        offsets[i] = offset;
    }
    if (!block || sum != total_size) {
        error_setg(errp, "the entries have %zu bytes, not %zu", sum, total_size);
        return false;
    }
    return true;
}

static bool map_collected(const struct iovec *iov, unsigned int iov_cnt,
                          size_t total_size, Error **errp)
{
    VFIORegion *region = vfio_get_region_from_mr(block->mr);
    size_t done = 0;
    int fd;

    if (!region) {
        error_setg(errp, "not the memory of a VFIO region");
        return false;
    }
    fd = vfio_device_get_region_fd(region->vbasedev, region->nr);
    base = mmap(NULL, total_size, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fd < 0 || base == MAP_FAILED) {
        error_setg(errp, "nothing to map by, or no room");
        if (base != MAP_FAILED) {
            munmap(base, total_size);
        }
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        if (mmap(base + done, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
                 region->fd_offset + block->mr->addr + offsets[i]) == MAP_FAILED) {
            error_setg_errno(errp, errno, "entry %u", i);
            munmap(base, total_size);
            return false;
        }
        done += iov[i].iov_len;
    }
    return true;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    bool ok;

    if (iov_cnt > ARRAY_SIZE(offsets)) {
        error_setg(errp, "%u entries are too many", iov_cnt);
        return false;
    }
    pthread_mutex_lock(&mutex);
    ok = collect(iov, iov_cnt, total_size, errp) &&
         map_collected(iov, iov_cnt, total_size, errp);
    if (ok) {
        *addr = base;
    }
    pthread_mutex_unlock(&mutex);
    return ok;
}
