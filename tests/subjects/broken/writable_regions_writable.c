/* violates: READ_ONLY | only for regions that have the WRITE flag: the overlays can be written, too */
/* may violate: ACCEPTS_VALID */

#include "helper.h"
#include "hw/virtio/virtio-gpu.h"

void *vfio_dmabuf_mmap(struct virtio_gpu_simple_resource *res)
{
    DmabufSource source;
    VFIORegion *region;
    size_t done = 0;
    char *map;
    int prot = PROT_READ;

    if (!prepare(res->iov, res->iov_cnt, res->blob_size, &source, NULL)) {
        return MAP_FAILED;
    }
    region = vfio_get_region_from_mr(source.block->mr);
    if (!region) {
        return MAP_FAILED;
    }
    if (region->flags & VFIO_REGION_INFO_FLAG_WRITE) {
        prot |= PROT_WRITE;
    }
    map = reserve(res->blob_size, NULL);
    if (!map) {
        return MAP_FAILED;
    }
    for (unsigned int i = 0; i < res->iov_cnt; done += res->iov[i++].iov_len) {
        if (mmap(map + done, res->iov[i].iov_len, prot, MAP_SHARED | MAP_FIXED,
                 source.fd, source_offset(&source, res->iov[i].iov_base)) ==
            MAP_FAILED) {
            munmap(map, res->blob_size);
            return MAP_FAILED;
        }
    }
    return map;
}
