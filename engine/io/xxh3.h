#pragma once
// XXH3 of 128 bits, of bytes that arrive in pieces.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <xxhash.h>

#include <memory>
#include <new>
#include <string>
#include <string_view>

namespace pastur {

class Xxh3 {
  public:
    Xxh3() : state_(XXH3_createState(), XXH3_freeState) {
        if (!state_) throw std::bad_alloc();
        reset();
    }
    void reset() { XXH3_128bits_reset(state_.get()); }
    void update(std::string_view bytes) { XXH3_128bits_update(state_.get(), bytes.data(), bytes.size()); }
    /// 32 hexadecimal digits.
    std::string digits() const {
        XXH128_canonical_t canonical;
        XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state_.get()));
        return fmt::format("{:02x}", fmt::join(canonical.digest, ""));
    }

  private:
    std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state_;
};

}  // namespace pastur
