/* conforms | counts the entries that overlap, by comparing each with each: seconds for 65,536 of them, and no hang */

#include "../broken/helper.h"

static volatile unsigned long overlaps;

static unsigned long overlapping(const struct iovec *iov, unsigned int iov_cnt)
{
    unsigned long n = 0;

    for (unsigned int i = 0; i < iov_cnt; i++) {
        uintptr_t start = (uintptr_t)iov[i].iov_base;
        uintptr_t end = start + iov[i].iov_len;

        for (unsigned int j = i + 1; j < iov_cnt; j++) {
            uintptr_t other = (uintptr_t)iov[j].iov_base;

            n += other < end && start < other + iov[j].iov_len;
        }
    }
    return n;
}

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    DmabufSource source;
    size_t done = 0;
    char *map;

    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    overlaps = overlapping(iov, iov_cnt);       /* they may: a guest can name one page twice */
    map = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; done += iov[i++].iov_len) {
        if (mmap(map + done, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED,
                 source.fd, source_offset(&source, iov[i].iov_base)) == MAP_FAILED) {
            error_setg_errno(errp, errno, "entry %u", i);
            munmap(map, total_size);
            return false;
        }
    }
    *addr = map;
    return true;
}
