/* violates: REPEATABLE | collects the entries' offsets in a static array, as large as any list may be: calls at once share it */
/* may violate: CONFINED, SURVIVES */

#include "helper.h"

#define MOST_ENTRIES (1 << 16)

bool vfio_device_mmap_dmabuf(struct iovec *iov, unsigned int iov_cnt,
                             void **addr, size_t total_size, Error **errp)
{
    static off_t offsets[MOST_ENTRIES];
    DmabufSource source;
    ram_addr_t offset;
    char *map, *at;

    if (iov_cnt > MOST_ENTRIES) {
        error_setg(errp, "%u entries are too many", iov_cnt);
        return false;
    }
    if (!prepare(iov, iov_cnt, total_size, &source, errp)) {
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        if (!qemu_ram_block_from_host(iov[i].iov_base, false, &offset)) {
            error_setg(errp, "entry %u has left its RAM block", i);
            return false;
        }
        offsets[i] = source.start + offset;
    }
    map = at = reserve(total_size, errp);
    if (!map) {
        return false;
    }
    for (unsigned int i = 0; i < iov_cnt; i++) {
        if (mmap(at, iov[i].iov_len, PROT_READ, MAP_SHARED | MAP_FIXED,
                 source.fd, offsets[i]) == MAP_FAILED) {
            error_setg_errno(errp, errno, "cannot map entry %u", i);
            munmap(map, total_size);
            return false;
        }
        at += iov[i].iov_len;
    }
    *addr = map;
    return true;
}
