#pragma once
// Proof that two processes know the same secret, without sending it.
#include <array>
#include <cstdint>
#include <string_view>

namespace pastur {

using Digest = std::array<uint8_t, 32>;

/// SHA-256 (FIPS 180-4).
Digest sha256(std::string_view message);
/// HMAC-SHA-256 (RFC 2104).
Digest hmac_sha256(std::string_view key, std::string_view message);
/// The time it takes does not depend on where the two differ.
bool equal_in_constant_time(const Digest& a, const Digest& b);
/// Random bytes from the kernel. Throws (kOther).
Digest random_digest();

}  // namespace pastur
