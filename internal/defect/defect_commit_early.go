//go:build defect_commit_early

package defect

// Planted is the defect of this build.
const Planted = CommitEarly
