#pragma once
// The messages of the rendezvous (rendezvous.h), as they are sent. Ranks of one job have the same byte order.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include "engine/ranks/hmac.h"

namespace pastur {

/// The first bytes of each message; the last two are the version.
inline constexpr uint64_t kHandshakeMagic = 0x7261'7374'7572'0002;

struct Challenge {
    uint64_t magic = kHandshakeMagic;
    Digest nonce = {};
};
struct Claim {
    uint64_t magic = kHandshakeMagic, job = 0;
    int32_t rank = 0, size = 0;
    uint32_t channel = 0, unused = 0;
    char place[96] = {};  ///< as of own_place(), cut to fit and terminated by a 0
    Digest process = {};  ///< random, one value per process
    Digest nonce = {}, proof = {};
};
struct Answer {
    enum class Verdict : uint32_t { kWelcome, kRefused, kWrongSecret };
    uint64_t magic = kHandshakeMagic;
    Verdict verdict = Verdict::kWelcome;
    uint32_t unused = 0;
    char text[192] = {};  ///< rank 0's place, or the reason of the refusal; terminated by a 0
    Digest proof = {};    ///< zeros for kWrongSecret: a stranger learns nothing
};
struct Begin {
    uint64_t magic = kHandshakeMagic;
};

/// Copies what fits of `text` into `field`, terminated by a 0.
template <size_t kBytes>
void put_text(char (&field)[kBytes], std::string_view text) {
    text.copy(field, kBytes - 1);
}

/// A message's bytes up to its proof.
template <typename Message>
std::string before_proof(const Message& message) {
    static_assert(std::has_unique_object_representations_v<Message>, "padding would be sent and signed");
    return {reinterpret_cast<const char*>(&message), offsetof(Message, proof)};
}

inline Digest proof_of(const Claim& claim, const Challenge& challenge, const std::string& secret) {
    const std::string nonce(reinterpret_cast<const char*>(challenge.nonce.data()), challenge.nonce.size());
    return hmac_sha256(secret, "rank" + nonce + before_proof(claim));
}
inline Digest proof_of(const Answer& answer, const Claim& claim, const Challenge& challenge,
                       const std::string& secret) {
    const std::string nonce(reinterpret_cast<const char*>(challenge.nonce.data()), challenge.nonce.size());
    return hmac_sha256(secret, "root" + nonce + before_proof(claim) + before_proof(answer));
}

}  // namespace pastur
