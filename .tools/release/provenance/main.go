// Command provenance writes the in-toto statement of a release in dist/: which
// files, made of which commit, by what (SLSA provenance 1). With -predicate it
// writes the predicate alone, for an image's attestation.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

const source = "https://github.com/sallyport-gateway/sallyport"

type statement struct {
	Type          string    `json:"_type"`
	Subject       []subject `json:"subject"`
	PredicateType string    `json:"predicateType"`
	Predicate     predicate `json:"predicate"`
}

type subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"`
}

type predicate struct {
	BuildDefinition struct {
		BuildType            string         `json:"buildType"`
		ExternalParameters   map[string]any `json:"externalParameters"`
		InternalParameters   map[string]any `json:"internalParameters"`
		ResolvedDependencies []material     `json:"resolvedDependencies"`
	} `json:"buildDefinition"`
	RunDetails struct {
		Builder struct {
			ID string `json:"id"`
		} `json:"builder"`
		Metadata map[string]string `json:"metadata,omitempty"`
	} `json:"runDetails"`
}

type material struct {
	URI    string            `json:"uri"`
	Digest map[string]string `json:"digest"`
}

func main() {
	alone := flag.Bool("predicate", false, "write the predicate alone")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: provenance [-predicate] DIST")
		os.Exit(2)
	}
	if err := run(flag.Arg(0), *alone); err != nil {
		fmt.Fprintln(os.Stderr, "provenance:", err)
		os.Exit(1)
	}
}

func run(dist string, alone bool) error {
	s := statement{Type: "https://in-toto.io/Statement/v1", PredicateType: "https://slsa.dev/provenance/v1"}
	sums, err := os.ReadFile(filepath.Join(dist, "checksums.txt"))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(sums)) {
		digest, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
		if !ok {
			return fmt.Errorf("checksums.txt has the line %q", line)
		}
		if name != "provenance.json" {
			s.Subject = append(s.Subject, subject{Name: name, Digest: map[string]string{"sha256": digest}})
		}
	}
	if len(s.Subject) == 0 {
		return errors.New("checksums.txt names no file")
	}
	if s.Predicate, err = made(); err != nil {
		return err
	}
	var out any = s
	if alone {
		out = s.Predicate
	}
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "  ")
	return e.Encode(out)
}

// made says what the release was made of, and by whom.
func made() (p predicate, err error) {
	git := func(args ...string) string {
		out, failed := exec.Command("git", args...).Output()
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("git %s: %w", strings.Join(args, " "), failed))
		}
		return strings.TrimSpace(string(out))
	}
	commit, version := git("rev-parse", "HEAD"), git("describe", "--tags", "--always", "--dirty")
	d := &p.BuildDefinition
	d.BuildType = source + "/blob/main/docs/release.md#how-a-release-is-built"
	d.ExternalParameters = map[string]any{"target": "make release", "version": version, "repository": source}
	d.InternalParameters = map[string]any{"go": runtime.Version(), "flags": "-trimpath -mod=readonly -ldflags='-s -w'", "cgo": false}
	d.ResolvedDependencies = []material{{URI: "git+" + source + "@" + version, Digest: map[string]string{"gitCommit": commit}}}
	p.RunDetails.Builder.ID = source + "/blob/main/docs/release.md#on-your-own-machine"
	if server, repo, run := os.Getenv("GITHUB_SERVER_URL"), os.Getenv("GITHUB_REPOSITORY"), os.Getenv("GITHUB_RUN_ID"); run != "" {
		p.RunDetails.Builder.ID = server + "/" + os.Getenv("GITHUB_WORKFLOW_REF")
		p.RunDetails.Metadata = map[string]string{"invocationId": server + "/" + repo + "/actions/runs/" + run + "/attempts/" + os.Getenv("GITHUB_RUN_ATTEMPT")}
	}
	return p, err
}
