/* conforms | takes a virtio-gpu resource and its device, fails with MAP_FAILED, region by its info */

#include <sys/mman.h>
#include <unistd.h>
#include "qemu/osdep.h"
#include "hw/vfio/vfio-device.h"
#include "hw/virtio/virtio-gpu.h"

static bool resource_is_whole(struct virtio_gpu_simple_resource *res,
                              RAMBlock **block)
{
    size_t page = getpagesize();
    uint64_t sum = 0;

    *block = NULL;
    for (uint32_t i = 0; i < res->iov_cnt; i++) {
        uint64_t len = res->iov[i].iov_len;
        ram_addr_t offset;
        RAMBlock *rb;

        rb = qemu_ram_block_from_host(res->iov[i].iov_base, false, &offset);
        if (!rb || (i && rb != *block)) {
            return false;
        }
        if (!len || len % page || offset % page ||
            len > rb->max_length - offset || sum + len < sum) {
            return false;
        }
        sum += len;
        *block = rb;
    }
    return *block && sum == res->blob_size;
}

void *virtio_gpu_mmap_vfio_blob(struct virtio_gpu_simple_resource *res,
                                VFIODevice *vdev)
{
    struct vfio_region_info *info = NULL;
    RAMBlock *block;
    uint8_t *map, *next;
    int index, fd;

    if (!vdev || !resource_is_whole(res, &block)) {
        return MAP_FAILED;
    }
    index = vfio_get_region_index_from_mr(block->mr);
    if (index < 0 || vfio_device_get_region_info(vdev, index, &info) != 0) {
        return MAP_FAILED;
    }
    fd = vfio_device_get_region_fd(vdev, index);

    map = mmap(NULL, res->blob_size, PROT_NONE, MAP_ANONYMOUS | MAP_SHARED,
               -1, 0);
    if (map == MAP_FAILED) {
        return MAP_FAILED;
    }
    next = map;
    for (uint32_t i = 0; i < res->iov_cnt; i++) {
        struct iovec *seg = &res->iov[i];
        ram_addr_t offset = (uint8_t *)seg->iov_base - block->host;

        if (mmap(next, seg->iov_len, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
                 info->offset + block->mr->addr + offset) == MAP_FAILED) {
            munmap(map, res->blob_size);
            return MAP_FAILED;
        }
        next += seg->iov_len;
    }
    return map;
}
