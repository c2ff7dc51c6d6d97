/* Map the segments of a dmabuf's BAR memory at one contiguous address. */

static bool find_source(struct iovec *iov, unsigned int iov_cnt,
                        RAMBlock **block, Error **errp)
{
    ram_addr_t offset;
    unsigned int i;

    *block = NULL;
    for (i = 0; i < iov_cnt; i++) {
        RAMBlock *rb = qemu_ram_block_from_host(iov[i].iov_base, false, &offset);

        if (!rb || (*block && rb != *block)) {
            error_setg(errp, "entry %u is not in the RAM block of the first", i);
            return false;
        }
        if (!iov[i].iov_len || iov[i].iov_len > rb->used_length - offset
            || (iov[i].iov_len | offset) % qemu_real_host_page_size()) {
            error_setg(errp, "entry %u has a bad length or offset", i);
            return false;
        }
        *block = rb;
    }
    if (!*block) {
        error_setg(errp, "no entries");
        return false;
    }
    return true;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    struct vfio_region_info *info;
    VFIODevice *vbasedev;
    ram_addr_t offset;
    RAMBlock *block;
    size_t done = 0;
    unsigned int i;
    int index;
    char *base;

    if (!find_source(iov, iov_cnt, &block, errp)) {
        return false;
    }
    vbasedev = vfio_device_lookup(block->mr);
    index = vbasedev ? vfio_get_region_index_from_mr(block->mr) : -1;
    if (index < 0 || vfio_device_get_region_info(vbasedev, index, &info)) {
        error_setg(errp, "the memory belongs to no region of a VFIO device");
        return false;
    }
    if (iov_size(iov, iov_cnt) != total_size) {
        error_setg(errp, "the lengths do not add up to %zu bytes", total_size);
        return false;
    }
    base = mmap(NULL, total_size, PROT_NONE,
                MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        error_setg_errno(errp, errno, "cannot reserve %zu bytes", total_size);
        return false;
    }
    for (i = 0; i < iov_cnt; i++) {
        qemu_ram_block_from_host(iov[i].iov_base, false, &offset);
        if (mmap(base + done, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED,
                 vbasedev->fd, info->offset + block->mr->addr + offset) == MAP_FAILED) {
            error_setg_errno(errp, errno, "cannot map entry %u", i);
            munmap(base, done);
            return false;
        }
        done += iov[i].iov_len;
    }
    *addr = base;
    return true;
}
