// Anonymous mappings; POSIX only, as is everything that Hokku runs on.
#include "memory.h"

#include <sys/mman.h>

#include <new>
#include <utility>

namespace hokku {
namespace {

constexpr size_t kHugePageBytes = size_t{2} << 20;

}  // namespace

Memory::Memory(size_t bytes) : bytes_(bytes) {
  if (bytes == 0) return;
  start_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start_ == MAP_FAILED) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
  // Only advice: a kernel without huge pages keeps small ones.
  if (bytes >= kHugePageBytes) madvise(start_, bytes, MADV_HUGEPAGE);
#endif
}

Memory::Memory(Memory&& other) noexcept
    : start_(std::exchange(other.start_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Memory& Memory::operator=(Memory&& other) noexcept {
  std::swap(start_, other.start_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Memory::~Memory() {
  if (start_ != nullptr) munmap(start_, bytes_);
}

}  // namespace hokku
