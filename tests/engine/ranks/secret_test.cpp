// The secret of a job: where it comes from, and the functions that prove it.
#include "engine/ranks/secret.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <future>
#include <set>

#include "data/files.h"
#include "engine/ranks/hmac.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace pastur::test {
namespace {

namespace fs = std::filesystem;

std::string hex(const Digest& digest) {
    return fmt::format("{:02x}", fmt::join(digest, ""));
}

TEST(Sha256, GivesThePublishedDigests) {
    EXPECT_EQ(hex(sha256("")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_EQ(hex(sha256("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_EQ(hex(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
              "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    EXPECT_EQ(hex(sha256(std::string(1000000, 'a'))),
              "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// RFC 4231, test cases 1, 2 and 6.
TEST(HmacSha256, GivesThePublishedCodes) {
    EXPECT_EQ(hex(hmac_sha256(std::string(20, '\x0b'), "Hi There")),
              "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    EXPECT_EQ(hex(hmac_sha256("Jefe", "what do ya want for nothing?")),
              "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    EXPECT_EQ(
        hex(hmac_sha256(std::string(131, '\xaa'), "Test Using Larger Than Block-Size Key - Hash Key First")),
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

class Secrets : public testing::Test {
  protected:
    void SetUp() override {
        unsetenv("PASTUR_SECRET");
        setenv("PASTUR_SECRET_FILE", file_.c_str(), 1);
    }
    void TearDown() override {
        unsetenv("PASTUR_SECRET");
        unsetenv("PASTUR_SECRET_FILE");
    }
    void write(const std::string& text, fs::perms mode = fs::perms::owner_read) const {
        fs::remove(file_);
        std::ofstream(file_) << text;
        fs::permissions(file_, mode);
    }
    TempFolder folder_;
    const fs::path file_ = folder_.path() / "secret";
};

TEST_F(Secrets, ComeFromTheVariableOrElseTheFile) {
    write("of the file, 16 or more\n");
    EXPECT_EQ(job_secret(), "of the file, 16 or more");
    setenv("PASTUR_SECRET", "of the variable, 16 or more", 1);
    EXPECT_EQ(job_secret(), "of the variable, 16 or more");
    setenv("PASTUR_SECRET", "fifteen bytes..", 1);
    expect_error(ExitCode::kUsage, {"at least 16 characters: PASTUR_SECRET has 15"}, job_secret);
    unsetenv("PASTUR_SECRET");
    unsetenv("PASTUR_SECRET_FILE");
    const std::string home = std::getenv("HOME") ? std::getenv("HOME") : "";
    setenv("HOME", folder_.path().c_str(), 1);
    const std::string made = job_secret();
    EXPECT_EQ(read_file(folder_.path() / ".pastur_secret", 4096), made + "\n");
    setenv("HOME", "", 1);
    expect_error(ExitCode::kUsage, {"set PASTUR_SECRET or PASTUR_SECRET_FILE"}, job_secret);
    setenv("HOME", home.c_str(), 1);
}

TEST_F(Secrets, AreCreatedOnceForTheirUserAlone) {
    const mode_t mask = umask(0);
    std::vector<std::future<std::string>> ranks;
    for (int rank = 0; rank < 8; ++rank) ranks.push_back(std::async(std::launch::async, job_secret));
    std::set<std::string> secrets;
    for (auto& rank : ranks) secrets.insert(rank.get());
    umask(mask);
    ASSERT_EQ(secrets.size(), 1u);
    EXPECT_EQ(secrets.begin()->size(), 64u);
    EXPECT_EQ(fs::status(file_).permissions(), fs::perms::owner_read | fs::perms::owner_write);
    EXPECT_EQ(std::distance(fs::directory_iterator(folder_.path()), {}), 1) << "no draft is left";
}

TEST_F(Secrets, AreNotTakenFromWhatOthersMayReadOrMade) {
    write("of the file, 16 or more\n", fs::perms::owner_read | fs::perms::group_read);
    expect_error(ExitCode::kUsage, {file_.string(), "is open to other users"}, job_secret);
    write("short\n");
    expect_error(ExitCode::kUsage, {"at least 16 characters", file_.string(), "has 5"}, job_secret);
    fs::remove(file_);
    fs::create_directory(file_);
    expect_error(ExitCode::kUsage, {"must be a regular file"}, job_secret);
    fs::remove(file_);
    ASSERT_EQ(mkfifo(file_.c_str(), 0600), 0);
    expect_error(ExitCode::kUsage, {"must be a regular file"}, job_secret);
    setenv("PASTUR_SECRET_FILE", (folder_.path() / "no" / "secret").c_str(), 1);
    expect_error(ExitCode::kIo, {"set PASTUR_SECRET on every rank"}, job_secret);
}

}  // namespace
}  // namespace pastur::test
