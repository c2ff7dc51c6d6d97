/* conforms | remembers where it is in thread-local variables, and counts its calls atomically */

#include <sys/mman.h>
#include "qemu/osdep.h"
#include "qapi/error.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio/vfio-region.h"

static __thread RAMBlock *state_block;
static __thread size_t state_bytes;
static __thread char *state_base;

static unsigned long calls;

static bool check_all(const struct iovec *iov, unsigned int iov_cnt, Error **errp)
{
    const size_t page = qemu_real_host_page_size();

    state_block = NULL;
    state_bytes = 0;
    for (unsigned int i = 0; i < iov_cnt; i++) {
        ram_addr_t offset;
        RAMBlock *rb = qemu_ram_block_from_host(iov[i].iov_base, false, &offset);

        if (!rb || (state_block && rb != state_block) || offset % page ||
            iov[i].iov_len == 0 || iov[i].iov_len % page ||
            iov[i].iov_len > rb->max_length - offset ||
            __builtin_add_overflow(state_bytes, iov[i].iov_len, &state_bytes)) {
            error_setg(errp, "entry %u cannot be mapped", i);
            return false;
        }
        state_block = rb;
    }
    if (!state_block) {
        error_setg(errp, "no entries");
    }
    return state_block != NULL;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    VFIORegion *region;
    size_t done = 0;
    int fd;

    __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED);
    if (!check_all(iov, iov_cnt, errp)) {
        return false;
    }
    region = vfio_get_region_from_mr(state_block->mr);
    fd = region ? vfio_device_get_region_fd(region->vbasedev, region->nr) : -1;
    if (fd < 0 || state_bytes != total_size) {
        error_setg(errp, "no region's memory, or not %zu bytes", total_size);
        return false;
    }
    state_base = mmap(NULL, total_size, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (state_base == MAP_FAILED) {
        error_setg_errno(errp, errno, "%zu bytes", total_size);
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        off_t offset = (char *)iov[i].iov_base - (char *)state_block->host;

        if (mmap(state_base + done, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
                 region->fd_offset + state_block->mr->addr + offset) == MAP_FAILED) {
            error_setg_errno(errp, errno, "entry %u", i);
            munmap(state_base, total_size);
            return false;
        }
        done += iov[i].iov_len;
    }
    *addr = state_base;
    return true;
}
