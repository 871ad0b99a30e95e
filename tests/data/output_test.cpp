// Output next to files of others: names that cannot be guessed, no link followed, only own files removed.
#include "data/output.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <string>

#include "data/files.h"
#include "data/temporary_name.h"
#include "tests/support/data_files.h"
#include "tests/support/expect_error.h"
#include "tests/support/temp_folder.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using test::expect_error;
using test::read_bytes;
using test::write_bytes;

class OutputNames : public testing::Test {
  protected:
    fs::path at(const std::string& name) const { return folder_.path() / name; }
    int64_t names() const { return std::distance(fs::directory_iterator(folder_.path()), {}); }

    test::TempFolder folder_;
    const fs::path file_ = at("f");
};

TEST_F(OutputNames, TemporaryNamesAreRandomAndMarked) {
    EXPECT_NE(temporary_name(file_), temporary_name(file_));
    const fs::path left = temporary_name(file_);
    for (const std::string& name :
         {left.filename().string(), std::string("f.partial"), std::string("f.pastur-partial-"),
          std::string("f.pastur-partial-0123456789abcdeg"), std::string("g.pastur-partial-0123456789abcdef"),
          std::string("f.pastur-partial-0123456789abcdef.txt")})
        write_bytes(at(name), "x");
    EXPECT_EQ(temporaries_of(file_), std::vector{left});
    EXPECT_EQ(temporaries_of(at(std::string(250, 'n'))), std::vector<fs::path>{});
    const fs::path longest = at(std::string(255, 'n'));
    write_file_atomically(longest, "fits");
    EXPECT_EQ(read_bytes(longest), "fits");
}

TEST_F(OutputNames, RemoveWhatAKilledProcessLeftAndNothingElse) {
    const fs::path left = temporary_name(file_), in_use = temporary_name(file_),
                   folder = temporary_name(file_), link = temporary_name(file_);
    write_bytes(left, "half");
    write_bytes(in_use, "being written");
    const FileDescriptor lock = open_descriptor(in_use, O_RDONLY);
    ASSERT_EQ(::flock(lock.get(), LOCK_EX), 0);
    fs::create_directory(folder);
    write_bytes(at("f.partial"), "precious");
    write_bytes(at("victim"), "precious");
    fs::create_symlink("victim", link);
    write_file_atomically(file_, "whole");
    EXPECT_EQ(read_bytes(file_), "whole");
    EXPECT_FALSE(fs::exists(left));
    EXPECT_EQ(read_bytes(in_use), "being written");
    EXPECT_TRUE(fs::is_directory(folder));
    EXPECT_EQ(read_bytes(at("f.partial")), "precious");
    EXPECT_EQ(read_bytes(at("victim")), "precious");
    EXPECT_EQ(names(), 6) << "no temporary file is left";
}

TEST_F(OutputNames, AreNotRemovedWhileTheyAreWritten) {
    OutputFile first(file_), second(file_);
    first.write("first");
    second.write("second");
    EXPECT_EQ(temporaries_of(file_).size(), 2u);
    second.commit();
    first.commit();
    EXPECT_EQ(read_bytes(file_), "first");
    EXPECT_EQ(names(), 1);
}

TEST_F(OutputNames, FollowNoLink) {
    write_bytes(at("victim"), "precious");
    fs::create_symlink("victim", file_);
    expect_error(ExitCode::kUsage, {"f is a symbolic link"}, [&] { write_file_atomically(file_, "x"); });
    expect_error(ExitCode::kIo, {"cannot create", "f"}, [&] { FileWriter{file_}; });
    expect_error(ExitCode::kIo, {"cannot write", "f"}, [&] { AppendFile{file_}; });
    EXPECT_EQ(read_bytes(at("victim")), "precious");
    fs::remove(at("victim"));
    expect_error(ExitCode::kUsage, {"f is a symbolic link"}, [&] { write_file_atomically(file_, "x"); });
    expect_error(ExitCode::kIo, {"cannot create", "f"}, [&] { FileWriter{file_}; });
    expect_error(ExitCode::kIo, {"cannot write", "f"}, [&] { AppendFile{file_}; });
    EXPECT_EQ(names(), 1) << "nothing was created, not even by the link";
    expect_error(ExitCode::kIo, {"Is a directory"}, [&] { write_file_atomically(folder_.path(), "x"); });
}

TEST_F(OutputNames, DevicesAndPipesAreWrittenTo) {
    ASSERT_EQ(::mkfifo(file_.c_str(), 0600), 0);
    const FileDescriptor reader = open_descriptor(file_, O_RDONLY | O_NONBLOCK);
    write_file_atomically(file_, "bytes");
    char got[10];
    EXPECT_EQ(std::string(got, read_some(reader, got, file_)), "bytes");
    EXPECT_TRUE(fs::is_fifo(file_));
    expect_error(ExitCode::kIo, {"not a regular file"}, [&] { AppendFile{file_}; });
    fs::create_symlink("/dev/full",
                       at("full"));  // never the device itself: a faulty program would replace it
    expect_error(ExitCode::kIo, {"full", "No space left"}, [&] { write_file_atomically(at("full"), "x"); });
    EXPECT_TRUE(fs::is_symlink(at("full")));
    EXPECT_EQ(names(), 2);
}

TEST_F(OutputNames, AnAppendedFileMustKeepItsName) {
    const fs::path run = at("run"), file = run / "log";
    fs::create_directory(run);
    const auto expect_lost = [&](const std::string& reason, const std::function<void()>& lose) {
        SCOPED_TRACE(reason);
        AppendFile log(file);
        log.write("one\n");
        log.sync();
        lose();
        expect_error(ExitCode::kIo, {"lost the file", "run/log", reason}, [&] { log.write("two\n"); });
        expect_error(ExitCode::kIo, {"lost the file", "run/log", reason}, [&] { log.sync(); });
    };
    expect_lost("another one has its name", [&] {
        fs::remove(file);
        write_bytes(file, "other");
    });
    EXPECT_EQ(read_bytes(file), "other");
    expect_lost("No such file", [&] { fs::remove(file); });
    expect_lost("No such file", [&] { fs::rename(run, at("moved")); });
    EXPECT_EQ(read_bytes(at("moved") / "log"), "one\n");
}

}  // namespace
}  // namespace pastur
