// The other ranks' side of the rendezvous.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <thread>

#include "engine/ranks/awake_clock.h"
#include "engine/ranks/handshake.h"
#include "engine/ranks/rendezvous.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

constexpr double kConnectSeconds = 3, kAnswerSeconds = 5;

class Guest {
  public:
    Guest(int rank, int size, int port, const JobKey& key) : key_(key), port_(port) {
        claim_.job = key.job;
        claim_.rank = rank;
        claim_.size = size;
        put_text(claim_.place, own_place());
        claim_.process = random_digest();
    }

    Connections run(const std::vector<std::string>& addresses, double timeout_s) {
        std::vector<std::string> failures;
        while (clock_.read() < timeout_s) {
            failures.clear();
            bool wrong_secret = false;
            for (const std::string& address : addresses) {
                clock_.read();
                std::string why;
                const Outcome outcome = try_all_channels(address, why);
                if (outcome == Outcome::kWelcome) return wait_for_begin(address, timeout_s);
                if (outcome == Outcome::kRefused) refused_by(address, why);
                wrong_secret = wrong_secret || outcome == Outcome::kWrongSecret;
                failures.push_back(fmt::format("{}: {}", address, why));
            }
            // Another job's rank 0 may be at one of several addresses, so all are tried first.
            if (wrong_secret)
                refused_by(fmt::format("{}", fmt::join(addresses, " or ")),
                           "wrong secret: set PASTUR_SECRET to one text on every rank");
            std::this_thread::sleep_for(std::chrono::milliseconds(200));
        }
        fail(ExitCode::kRankLost, "rank {} of {} found no rank 0 on port {} within {} s: {}", claim_.rank,
             claim_.size, port_, timeout_s, fmt::join(failures, ", "));
    }

  private:
    enum class Outcome : uint8_t { kWelcome, kRefused, kWrongSecret, kNone };

    Outcome try_all_channels(const std::string& address, std::string& why) {
        made_ = {.rank = claim_.rank, .size = claim_.size};
        made_.places.resize(1);
        for (uint32_t channel = 0; channel < kChannels; ++channel) {
            claim_.channel = channel;
            FileDescriptor socket = connect_to(address, port_, kConnectSeconds, why);
            if (!socket) return Outcome::kNone;
            const Outcome outcome = claim(socket.get(), why);
            if (outcome != Outcome::kWelcome) return outcome;
            made_.sockets[channel].push_back(std::move(socket));
        }
        return Outcome::kWelcome;
    }

    Outcome claim(int socket, std::string& why) {
        const Clock::time_point until = deadline_in(kAnswerSeconds);
        Challenge challenge;
        Answer answer;
        why = "no answer";
        if (!receive_all(socket, &challenge, sizeof challenge, until)) return Outcome::kNone;
        why = "what answers is not rank 0 of this job";
        if (challenge.magic != kHandshakeMagic) return Outcome::kNone;
        claim_.nonce = random_digest();
        claim_.proof = proof_of(claim_, challenge, key_.secret);
        if (!send_all(socket, &claim_, sizeof claim_, until) ||
            !receive_all(socket, &answer, sizeof answer, until) || answer.magic != kHandshakeMagic)
            return Outcome::kNone;
        if (answer.verdict == Answer::Verdict::kWrongSecret) {
            why = "wrong secret";
            return Outcome::kWrongSecret;
        }
        if (!equal_in_constant_time(answer.proof, proof_of(answer, claim_, challenge, key_.secret)))
            return Outcome::kNone;
        answer.text[sizeof answer.text - 1] = 0;
        if (answer.verdict == Answer::Verdict::kWelcome) {
            made_.places[0] = answer.text;
            return Outcome::kWelcome;
        }
        why = answer.text;
        return Outcome::kRefused;
    }

    Connections wait_for_begin(const std::string& address, double timeout_s) {
        for (const auto& sockets : made_.sockets) {
            const int socket = sockets[0].get();
            while (clock_.read() < timeout_s && !wait_for_bytes(socket, deadline_in(1))) continue;
            Begin begin;
            if (!receive_all(socket, &begin, sizeof begin, deadline_in(1)))
                fail(ExitCode::kRankLost,
                     "rank {} reached rank 0 ({}) at {}, port {}, which ended before every rank was there",
                     claim_.rank, made_.places[0], address, port_);
        }
        return std::move(made_);
    }

    [[noreturn]] void refused_by(const std::string& address, const std::string& why) const {
        fail(ExitCode::kUsage, "rank {} of {} was refused by rank 0 at {}, port {}: {}", claim_.rank,
             claim_.size, address, port_, why);
    }

    const JobKey& key_;
    int port_;
    AwakeClock clock_{kChannels * (kConnectSeconds + kAnswerSeconds)};
    Claim claim_;
    Connections made_;
};

}  // namespace

Connections join_rendezvous(int rank, int size, const std::vector<std::string>& addresses, int port,
                            const JobKey& key, double timeout_s) {
    return Guest(rank, size, port, key).run(addresses, timeout_s);
}

}  // namespace pastur
