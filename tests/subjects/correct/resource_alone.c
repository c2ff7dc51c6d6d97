/* conforms | takes the resource alone, finds the device by its memory region, checks as it overlays */

#include "qemu/osdep.h"
#include "hw/vfio/vfio-device.h"
#include "hw/vfio/vfio-region.h"
#include "hw/virtio/virtio-gpu.h"
#include <sys/mman.h>

void *vfio_dmabuf_mmap(struct virtio_gpu_simple_resource *res)
{
    const size_t page = qemu_real_host_page_size();
    VFIODevice *vdev = NULL;
    RAMBlock *rb, *first = NULL;
    VFIORegion *region;
    ram_addr_t offset;
    size_t mapped = 0, len;
    char *map;
    unsigned int i;

    map = mmap(NULL, res->blob_size, PROT_NONE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (map == MAP_FAILED) {
        return MAP_FAILED;
    }
    for (i = 0; i < res->iov_cnt; i++) {
        len = res->iov[i].iov_len;
        rb = qemu_ram_block_from_host(res->iov[i].iov_base, false, &offset);
        if (!rb) {
            break;
        }
        if (i == 0) {
            first = rb;
            vdev = vfio_device_lookup(rb->mr);
        }
        region = vfio_get_region_from_mr(rb->mr);
        if (rb != first || !vdev || !region) {
            break;
        }
        if (!len || len % page || offset % page ||
            len > rb->max_length - offset || len > res->blob_size - mapped) {
            break;
        }
        if (mmap(map + mapped, len, PROT_READ, MAP_SHARED | MAP_FIXED,
                 vfio_device_get_region_fd(vdev, region->nr),
                 region->fd_offset + rb->mr->addr + offset) == MAP_FAILED) {
            break;
        }
        mapped += len;
    }
    if (i == res->iov_cnt && mapped == res->blob_size) {
        return map;
    }
    munmap(map, res->blob_size);
    return MAP_FAILED;
}
