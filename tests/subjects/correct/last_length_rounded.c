/* conforms | a last entry that ends within a page is mapped whole, others are refused */

#include <sys/mman.h>
#include "qemu/osdep.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio/vfio-region.h"
#include "hw/virtio/virtio-gpu.h"

void *vfio_dmabuf_mmap(struct virtio_gpu_simple_resource *res,
                       VFIODevice *vdev)
{
    const size_t page = qemu_real_host_page_size();
    RAMBlock *rb = NULL, *prev = NULL;
    VFIORegion *region = NULL;
    uint64_t left = res->blob_size;
    ram_addr_t offset;
    char *map, *at;
    int fd;

    for (unsigned int i = 0; i < res->iov_cnt; i++, prev = rb) {
        size_t len = res->iov[i].iov_len;

        rb = qemu_ram_block_from_host(res->iov[i].iov_base, false, &offset);
        if (rb == NULL || (prev != NULL && prev != rb)) {
            return MAP_FAILED;
        }
        if (len == 0 || len > left || offset % page != 0 ||
            len > rb->max_length - offset) {
            return MAP_FAILED;
        }
        if (len % page != 0 && i + 1 < res->iov_cnt) {
            return MAP_FAILED;
        }
        left -= len;
    }
    if (vdev == NULL || rb == NULL || left > 0) {
        return MAP_FAILED;
    }
    region = vfio_get_region_from_mr(rb->mr);
    if (region == NULL) {
        return MAP_FAILED;
    }
    fd = vfio_device_get_region_fd(vdev, region->nr);

    map = mmap(NULL, res->blob_size, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS,
               -1, 0);
    if (map == MAP_FAILED) {
        return MAP_FAILED;
    }
    at = map;
    for (unsigned int i = 0; i < res->iov_cnt; i++) {
        size_t len = ROUND_UP(res->iov[i].iov_len, page);

        offset = (uint8_t *)res->iov[i].iov_base - rb->host;
        if (mmap(at, len, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
                 region->fd_offset + rb->mr->addr + offset) == MAP_FAILED) {
            munmap(map, ROUND_UP(res->blob_size, page));
            return MAP_FAILED;
        }
        at += len;
    }
    return map;
}
