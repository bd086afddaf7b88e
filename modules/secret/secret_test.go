package secret

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestResolve(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SECRET_SET", "from-env")
	t.Setenv("SECRET_MOUNTED_FILE", file)
	t.Setenv("SECRET_EMPTY_FILE", empty)
	t.Setenv("SECRET_LOST_FILE", file+".gone")

	tests := []struct {
		name, reference, want, wantErr string
	}{
		{"plain text", "hunter2", "hunter2", ""},
		{"nothing", "", "", ""},
		{"environment", "{env.SECRET_SET}", "from-env", ""},
		{"mounted file", "{env.SECRET_MOUNTED}", "from-file", ""},
		{"file placeholder", "{file." + file + "}", "from-file", ""},
		{"within text", "redis://:{env.SECRET_SET}@host", "redis://:from-env@host", ""},
		{"unset", "{env.SECRET_UNSET}", "", "SECRET_UNSET is empty"},
		{"unset within text", "x{env.SECRET_UNSET}", "", "env.SECRET_UNSET"},
		{"empty file", "{env.SECRET_EMPTY}", "", "is empty"},
		{"lost file", "{env.SECRET_LOST}", "", "no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Resolve(tt.reference)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("Resolve(%q) = %q, %v; want an error with %q", tt.reference, got, err, tt.wantErr)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("Resolve(%q) = %q, %v; want %q", tt.reference, got, err, tt.want)
			}
		})
	}
}

func TestReferenced(t *testing.T) {
	t.Setenv("SECRET_SET", "from-env")
	for _, written := range []string{"hunter2", "", "Bearer {env.SECRET_SET}", "{env.SECRET_SET}x", "{env.A}{env.B}", "{http.vars.x}"} {
		if got, err := Referenced(written, "TOKEN", "/run/secrets/token"); err == nil || !strings.HasSuffix(err.Error(), "write it as {env.TOKEN} or {file./run/secrets/token}") {
			t.Errorf("Referenced(%q) = %q, %v", written, got, err)
		}
	}
	if got, err := Referenced("{env.SECRET_SET}", "TOKEN", "/x"); got != "from-env" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := Referenced("{env.SECRET_UNSET}", "TOKEN", "/x"); err == nil || !strings.Contains(err.Error(), "SECRET_UNSET is empty") {
		t.Errorf("unset: %v", err)
	}
}
