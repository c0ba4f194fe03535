"""The study with people of the paper's Tables 3 to 5: images -> design -> database -> server -> answers -> tables -> report."""
