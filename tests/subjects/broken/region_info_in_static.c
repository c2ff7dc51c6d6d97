/* violates: REPEATABLE | copies the region's information into a static struct, which a call on another region overwrites */
/* may violate: CONFINED, SURVIVES */

#include "helper.h"

static struct vfio_region_info current;

static bool load_region(RAMBlock *block, VFIODevice *vbasedev, Error **errp)
{
    struct vfio_region_info *info;
    int index = vfio_get_region_index_from_mr(block->mr);

    if (index < 0 || vfio_device_get_region_info(vbasedev, index, &info)) {
        error_setg(errp, "no information on the region");
        return false;
    }
    current = *info;
    return true;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    VFIODevice *vbasedev;
    RAMBlock *block;
    char *map, *at;
    size_t sum;

    if (!check_entries(iov, iov_cnt, &block, &sum, errp) ||
        !check_size(sum, total_size, errp)) {
        return false;
    }
    vbasedev = vfio_device_lookup(block->mr);
    if (!vbasedev) {
        error_setg(errp, "not the memory of a VFIO device");
        return false;
    }
    if (!load_region(block, vbasedev, errp)) {
        return false;
    }
    map = at = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        off_t offset = (char *)iov[i].iov_base - (char *)block->host;

        if (mmap(at, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED,
                 vfio_device_get_region_fd(vbasedev, current.index),
                 current.offset + block->mr->addr + offset) == MAP_FAILED) {
            error_setg_errno(errp, errno, "cannot map entry %u", i);
            munmap(map, total_size);
            return false;
        }
        at += iov[i].iov_len;
    }
    *addr = map;
    return true;
}
