#include "engine/ranks/secret.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "data/files.h"
#include "engine/ranks/hmac.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;

std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

/// Writes a random secret under an unpredictable name and links it to `file`, which replaces nothing: link(2)
/// is atomic, also over NFS.
void create_secret(const fs::path& file) {
    const fs::path draft = fmt::format("{}.{}", file.string(), random_secret().substr(0, 16));
    const std::string text = random_secret() + "\n";
    {
        const FileDescriptor out(
            open(draft.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
        if (!out || write(out.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()) ||
            fsync(out.get()) != 0) {
            const int why = errno;
            if (out) unlink(draft.c_str());
            fail(ExitCode::kIo, "cannot write the ranks' secret {}: {}; set PASTUR_SECRET on every rank",
                 file.string(), std::strerror(why));
        }
    }
    const int linked = link(draft.c_str(), file.c_str());
    const int why = errno;
    unlink(draft.c_str());
    if (linked != 0 && why != EEXIST)
        fail(ExitCode::kIo, "cannot create the ranks' secret {}: {}; set PASTUR_SECRET on every rank",
             file.string(), std::strerror(why));
}

std::string checked(std::string secret, const std::string& from) {
    while (!secret.empty() && (secret.back() == '\n' || secret.back() == '\r')) secret.pop_back();
    if (secret.size() < kShortestSecret)
        fail(ExitCode::kUsage, "the ranks' secret needs at least {} characters: {} has {}", kShortestSecret,
             from, secret.size());
    return secret;
}

}  // namespace

std::string random_secret() {
    const Digest bytes = random_digest();
    return fmt::format("{:02x}", fmt::join(bytes, ""));
}

std::string job_secret() {
    if (const std::string secret = variable("PASTUR_SECRET"); !secret.empty())
        return checked(secret, "PASTUR_SECRET");
    fs::path file = variable("PASTUR_SECRET_FILE");
    if (file.empty()) {
        const std::string home = variable("HOME");
        if (home.empty())
            fail(ExitCode::kUsage,
                 "ranks need a secret: set PASTUR_SECRET or PASTUR_SECRET_FILE (HOME is not set)");
        file = fs::path(home) / ".pastur_secret";
    }
    FileDescriptor in = open_descriptor(file, O_RDONLY | O_NONBLOCK);
    if (!in && errno == ENOENT) {
        create_secret(file);
        in = open_descriptor(file, O_RDONLY | O_NONBLOCK);
    }
    struct stat found {};
    if (!in || fstat(in.get(), &found) != 0)
        fail(ExitCode::kIo, "cannot read the ranks' secret {}: {}", file.string(), std::strerror(errno));
    if (!S_ISREG(found.st_mode))
        fail(ExitCode::kUsage, "the ranks' secret {} must be a regular file", file.string());
    if (found.st_uid != geteuid())
        fail(ExitCode::kUsage, "the ranks' secret {} must belong to the user who starts the ranks",
             file.string());
    if ((found.st_mode & 077) != 0)
        fail(ExitCode::kUsage, "the ranks' secret {} is open to other users: chmod 600 it, or remove it",
             file.string());
    std::string text(4096, '\0');
    text.resize(read_some(in, text, file));
    return checked(text, file.string());
}

}  // namespace pastur
