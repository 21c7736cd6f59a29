// Zeroed memory straight from the operating system: aligned to a page, given only when first touched.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hokku {

class Memory {
 public:
  Memory() = default;
  // Throws std::bad_alloc when the address space has no room. Large blocks ask for huge pages where there are any.
  explicit Memory(size_t bytes);
  Memory(Memory&& other) noexcept;
  Memory& operator=(Memory&& other) noexcept;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory();

  size_t bytes() const { return bytes_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(start_);
  }

 private:
  void* start_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace hokku
