"""Second factors: enrolment, challenge, proof, removal (contract §3.11)."""
