package audit

import "testing"

func TestCleanQuery(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"nothing to hide", "page=2&sort=asc", "page=2&sort=asc"},
		{"empty", "", ""},
		{"token", "page=2&access_token=abc", "page=2&access_token=REDACTED"},
		{"case and escapes", "Api%5FKey=abc&a=1", "Api%5FKey=REDACTED&a=1"},
		{"no value", "password&x=1", "password=REDACTED&x=1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := cleanQuery(c.in); got != c.want {
				t.Errorf("cleanQuery(%q) = %q, want %q", c.in, got, c.want)
			}
		})
	}
}

func TestLensHidesWhatIsRedacted(t *testing.T) {
	names := []string{"path", "subject", "client_ip"}
	redact := Redact{Fields: []string{"subject", "client_ip"}}
	hashed, err := grind(names, redact, "pepper", nil)
	if err != nil {
		t.Fatal(err)
	}
	left, err := grind(names, redact, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Hash([]byte("pepper"), KeyID([]byte("pepper")), "ann")
	for _, c := range []struct {
		name  string
		l     lens
		field uint32
		want  string
	}{
		{"shown", hashed, fieldPath, "ann"},
		{"hashed", hashed, fieldSubject, want},
		{"left out without a key", left, fieldSubject, ""},
		{"not listed", hashed, fieldIssuer, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.l.see(c.field, "ann"); got != c.want {
				t.Errorf("see(%d, ann) = %q, want %q", c.field, got, c.want)
			}
		})
	}
}

func TestDeniedFieldsStayDenied(t *testing.T) {
	for _, name := range []string{"header:Authorization", "header:cookie", "header:X-API-Key", "query:access_token", "claim:client_secret", "query:key"} {
		if _, err := grind([]string{name}, Redact{}, "", nil); err == nil {
			t.Errorf("field %s is accepted", name)
		}
	}
}
