package audit

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/sallyport-gateway/sallyport/modules/audit/spool"
	"github.com/sallyport-gateway/sallyport/modules/secret"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "audit",
		Usage: "verify|dump|repair|hash",
		Short: "Works with recorded audit events",
		CobraFunc: func(c *cobra.Command) {
			c.AddCommand(verifyCommand(), dumpCommand(), repairCommand(), hashCommand())
		},
	})
}

func verifyCommand() *cobra.Command {
	var keys []string
	var sink string
	c := &cobra.Command{
		Use:   "verify <spool, NDJSON file, or folder of them>...",
		Short: "Checks that no event is missing or was changed",
		Long: `Checks the events of a spool, or of NDJSON files that a sink has kept byte by byte,
given in order: gap-free sequences, and the chain against the signed checkpoints. Of a
folder without a spool the files that end in .ndjson are read, in the order of their names.
Exits with 1 and names what is wrong. Without --key signatures are not checked,
and whoever can write the files could have signed the checkpoints anew.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return verifyAll(c.OutOrStdout(), args, keys, sink)
		},
	}
	c.Flags().StringArrayVar(&keys, "key", nil, "verification key, or a file that holds it such as checkpoint.pub; may be repeated")
	c.Flags().StringVar(&sink, "checkpoints", "", "NDJSON file of a sink whose checkpoints the spool is held against; this shows removal of the newest events")
	return c
}

func verifyAll(out io.Writer, paths, keys []string, sink string) error {
	parsed, err := noteKeys(keys)
	if err != nil {
		return err
	}
	v := newVerifier(parsed)
	v.keepAll = sink != ""
	for _, path := range paths {
		if err := v.path(path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	if sink != "" {
		f, err := os.Open(sink)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := v.against(f); err != nil {
			return fmt.Errorf("%s: %w", sink, err)
		}
	}
	return v.report(out)
}

func noteKeys(args []string) (keys []noteKey, err error) {
	for _, arg := range args {
		if b, err := os.ReadFile(arg); err == nil {
			arg = string(b)
		}
		k, err := parseNoteKey(arg)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

func (v *verifier) path(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return v.file(path)
	}
	segments, err := filepath.Glob(filepath.Join(path, "*.aseg"))
	if err != nil {
		return err
	}
	if len(segments) == 0 {
		return v.archive(path)
	}
	problems, err := spool.Walk(spool.Disk{}, path, func(node string, r spool.Record, at spool.Hash) error {
		v.take(node, r.Mark, r.Payload, &at)
		return nil
	})
	for _, p := range problems {
		v.fail("%s", p)
	}
	return err
}

// archive reads the NDJSON files below a folder in the order of their names,
// which for those of the file sink is the order of their events.
func (v *verifier) archive(dir string) error {
	found := false
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".ndjson" {
			return err
		}
		found = true
		if err := v.file(path); err != nil {
			return fmt.Errorf("%s: %w", e.Name(), err)
		}
		return nil
	})
	if err == nil && !found {
		err = errors.New("neither a spool nor an archive: there are no .aseg and no .ndjson files in it")
	}
	return err
}

func (v *verifier) file(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return v.lines(f)
}

var errNotSound = errors.New("the record is not sound")

func (v *verifier) report(out io.Writer) error {
	for _, p := range v.problems {
		fmt.Fprintln(out, "wrong:", p)
	}
	for _, s := range v.streams {
		fmt.Fprintf(out, "%s: events %d to %d\n", s.node, s.first, s.next-1)
		if len(s.loose) > 0 {
			fmt.Fprintf(out, "%s: no checkpoint covers the events from %d on\n", s.node, s.loose[0].mark.Seq)
		}
	}
	signed := "signatures checked"
	if len(v.keys) == 0 {
		signed = "signatures not checked: no --key"
	}
	fmt.Fprintf(out, "%d events, %d seen twice, %d checkpoints, %s\n", v.records, v.duplicates, v.checkpoints, signed)
	if len(v.problems) > 0 {
		return fmt.Errorf("%w: %d problems", errNotSound, len(v.problems))
	}
	return nil
}

func dumpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "dump <spool>",
		Short: "Prints the events of a spool as a sink would get them, one a line",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			var line []byte
			problems, err := spool.Walk(spool.Disk{}, args[0], func(node string, r spool.Record, _ spool.Hash) error {
				line = appendPlace(line[:0], node, r.Mark)
				line = append(append(line, r.Payload[1:]...), '\n')
				_, err := c.OutOrStdout().Write(line)
				return err
			})
			for _, p := range problems {
				fmt.Fprintln(c.ErrOrStderr(), "wrong:", p)
			}
			return err
		},
	}
}

func repairCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "repair <spool>",
		Short: "Makes a spool fit to open: cuts off a torn tail, sets unreadable segments aside",
		Long: `Does to a spool that no gateway holds what the next start would do, and says what
that was. It neither invents nor deletes an event; damaged ones stay where they are
and are passed over.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			node, err := nodeOf(args[0])
			if err != nil {
				return err
			}
			l, err := spool.Open(args[0], spool.Options{Node: node, Limit: 1 << 40})
			if err != nil {
				return err
			}
			r := l.Recovered
			fmt.Fprintf(c.OutOrStdout(), "last event %d of epoch %d; %d torn bytes cut off, %d events lost, set aside: [%s]\n",
				r.Last.Seq, r.Last.Epoch, r.Torn, r.Lost, strings.Join(r.Quarantined, " "))
			return l.Close()
		},
	}
}

// nodeOf reads whose spool it is.
func nodeOf(dir string) (node string, err error) {
	_, err = spool.Walk(spool.Disk{}, dir, func(n string, _ spool.Record, _ spool.Hash) error {
		node = n
		return io.EOF
	})
	switch {
	case node != "":
		return node, nil
	case err != nil:
		return "", err
	}
	return "", fmt.Errorf("%s holds no events", dir)
}

func hashCommand() *cobra.Command {
	var key string
	c := &cobra.Command{
		Use:   "hash --key <secret> <value>...",
		Short: "Prints the form in which redacted values appear in events",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := secret.Resolve(key)
			if err != nil {
				return err
			}
			if s == "" {
				return errors.New("--key is missing; it takes what `redact` takes, such as {env.AUDIT_HMAC_KEY} or {file./run/secrets/key}")
			}
			for _, v := range args {
				fmt.Fprintln(c.OutOrStdout(), Hash([]byte(s), KeyID([]byte(s)), v))
			}
			return nil
		},
	}
	c.Flags().StringVar(&key, "key", "", "the key of `redact`, as {env.X} or {file.X}")
	return c
}
