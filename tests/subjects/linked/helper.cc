// A helper in C++: failures are exceptions, and memory of the heap stays from one call to the next.

#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>
#include <sys/mman.h>
#include <unistd.h>
#include <vfio_verify.h>

namespace {
class Mapping {
public:
    explicit Mapping(size_t size) : size_(size)
    {
        void *at = mmap(nullptr, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (at == MAP_FAILED) {
            throw std::system_error(errno, std::generic_category());
        }
        at_ = static_cast<char *>(at);
    }
    ~Mapping()
    {
        if (at_) {
            munmap(at_, size_);
        }
    }
    void add(const vfio_verify_segment &s)
    {
        if (mmap(at_ + done_, s.length, PROT_READ, MAP_SHARED | MAP_FIXED, s.fd, s.offset) == MAP_FAILED) {
            throw std::system_error(errno, std::generic_category(), "overlay");
        }
        done_ += s.length;
    }
    void *release() { char *at = at_; at_ = nullptr; return at; }
private:
    size_t size_, done_ = 0;
    char *at_;
};

std::vector<std::string> *const calls = new std::vector<std::string>;
}

extern "C" int own_map(const vfio_verify_segment *segments, size_t n, size_t total, void **address) noexcept
try {
    const std::vector<vfio_verify_segment> list(segments, segments + n);
    const uintptr_t mask = sysconf(_SC_PAGESIZE) - 1;
    size_t sum = 0;
    if (calls->size() < 100) {
        calls->push_back("a text that is too long to lie in the string itself");
    }
    for (const auto &s : list) {
        if (s.fd < 0 || s.block != list[0].block || !s.length || s.length > s.available
            || ((reinterpret_cast<uintptr_t>(s.base) | s.length | s.offset) & mask)
            || __builtin_add_overflow(sum, s.length, &sum)) {
            throw std::invalid_argument("segment");
        }
    }
    if (!n || sum != total) {
        throw std::invalid_argument("size");
    }
    Mapping mapping(total);
    for (const auto &s : list) {
        mapping.add(s);
    }
    *address = mapping.release();
    return 0;
} catch (const std::system_error &error) {
    return error.code().value();
} catch (const std::invalid_argument &) {
    return EINVAL;
}
