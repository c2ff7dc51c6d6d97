/* violates: SAME_BLOCK | joins entries that are neighbours in the host, and looks only the first of them up: another RAMBlock may begin there */

#include "helper.h"

static bool goes_on(const struct iovec *iov, unsigned int i)
{
    return i > 0 && iov[i].iov_base ==
                        (char *)iov[i - 1].iov_base + iov[i - 1].iov_len;
}

static bool check_list(const struct iovec *iov, unsigned int iov_cnt,
                       RAMBlock **block, size_t *sum, Error **errp)
{
    const size_t page = qemu_real_host_page_size();
    ram_addr_t offset;

    *block = NULL;
    *sum = 0;
    for (unsigned int i = 0; i < iov_cnt; i++) {
        RAMBlock *rb;

        if (!goes_on(iov, i)) {
            rb = check_entry(&iov[i], errp);
            if (!rb) {
                return false;
            }
            if (*block && *block != rb) {
                error_setg(errp, "entry %u is of another RAM block", i);
                return false;
            }
            *block = rb;
        } else if (iov[i].iov_len == 0 || iov[i].iov_len % page ||
                   !qemu_ram_block_from_host((char *)iov[i].iov_base +
                                                 iov[i].iov_len - 1,
                                             false, &offset)) {
            error_setg(errp, "entry %u is no memory of the guest's", i);
            return false;
        }
        if (__builtin_add_overflow(*sum, iov[i].iov_len, sum)) {
            error_setg(errp, "the lengths overflow at entry %u", i);
            return false;
        }
    }
    if (iov_cnt == 0) {
        error_setg(errp, "no entries");
    }
    return iov_cnt > 0;
}

void *vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                              Error **errp)
{
    DmabufSource source;
    RAMBlock *block;
    size_t total;
    void *map;

    if (!check_list(iov, iov_cnt, &block, &total, errp) ||
        !find_source(block, &source, errp)) {
        return NULL;
    }
    map = reserve(total, errp);
    if (!map) {
        return NULL;
    }
    if (!overlay_all(map, iov, iov_cnt, &source, errp)) {
        munmap(map, total);
        return NULL;
    }
    return map;
}
